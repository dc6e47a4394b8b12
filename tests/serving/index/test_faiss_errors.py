"""What FAISS raises reaches a person as an error of the platform, from every way into it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rf_platform.errors import CorruptError, RfError, RunError, UnavailableError
from rf_serving.index import HnswIndex, IvfPqIndex, VectorIndex, exact_search, open_index
from rf_serving.index.faiss_library import building, faiss, faiss_errors, reading, searching, writing
from rf_serving.index.two_level import centroids

Draw = Callable[..., np.ndarray]
X = np.zeros((4, 8), np.float32)


def too_large() -> None:
    faiss.IndexFlatIP(8).codes.resize(1 << 50)


REAL: list[tuple[Callable[[], Any], type[RfError], str]] = [
    (
        lambda: faiss.read_index("/nowhere"),
        CorruptError,
        r"/b is no FAISS index: .*\(could not open .*No such file.*\); build",
    ),
    (
        lambda: faiss.IndexIVFFlat(faiss.IndexFlatIP(8), 8, 2).add(X),
        CorruptError,
        r"\('is_trained' does not hold\); build",
    ),
    (
        lambda: faiss.IndexFlatIP(8).search(X[:, :3], 1),
        CorruptError,
        "the number or the width of the rows does not fit",
    ),
    (lambda: faiss.Kmeans(8, 20).train(X), CorruptError, r"\(Number of training points \(4\) should be at least"),
    (
        lambda: faiss.IndexHNSWFlat(8, 4).remove_ids(np.array([1])),
        CorruptError,
        r"\(remove_ids not implemented for this",
    ),
    (too_large, UnavailableError, r"this machine has not enough memory \(std::bad_alloc\); free some, or .*ivf-pq"),
]


@pytest.mark.parametrize(("fail", "kind", "says"), REAL)
def test_errors_as_faiss_raises_them(fail: Callable[[], Any], kind: type[RfError], says: str) -> None:
    with pytest.raises(kind, match=says) as error, reading(Path("/b")):
        fail()
    assert error.value.__cause__ is not None
    assert "/project/" not in str(error.value)  # neither C++ functions nor places in sources


@pytest.mark.parametrize(
    "text", ["CUDA error 2 out of memory", "StandardGpuResources: alloc fail type X", "CUBLAS_STATUS_ALLOC_FAILED"]
)
def test_a_device_without_memory(text: str) -> None:
    with (
        pytest.raises(UnavailableError, match=r"CUDA device 3 has not enough memory .*RF_INDEX_DEVICE=cuda:N"),
        faiss_errors("copying", "retry", where="CUDA device 3"),
    ):
        raise RuntimeError(text)


@pytest.mark.parametrize("block", [building(), searching(), writing(Path("/b"))])
def test_other_failures_are_failed_runs(block: Any) -> None:
    with pytest.raises(RunError, match=r"FAISS failed"), block:
        faiss.IndexPQ(15, 4, 8)


def test_what_the_platform_says_itself_is_left_alone() -> None:
    with pytest.raises(CorruptError, match=r"^as it was$"), searching():
        raise CorruptError("as it was")


def test_queries_of_another_width(kind: type[VectorIndex], unit: Draw) -> None:
    index = kind.build(unit(50, 16))
    for width in (15, 17, 32):
        with pytest.raises(CorruptError, match=rf"a query has {width} numbers and a row of the index 16: .*build"):
            index.search(unit(1, width), 5)


def test_a_matrix_of_another_width(unit: Draw) -> None:
    with pytest.raises(RunError, match=r"searching the index: .*width of the rows does not fit"):
        exact_search(unit(50, 16), unit(1, 15), 5)


def test_vectors_that_are_not_finite(unit: Draw) -> None:
    sample = unit(100)
    sample[3, 3] = np.nan
    with pytest.raises(RunError, match=r"building the index: .*NaN.*look for vectors that are not finite"):
        centroids(sample, 4)


@pytest.mark.parametrize("kind", [HnswIndex, IvfPqIndex])
def test_files(kind: type[VectorIndex], unit: Draw, tmp_path: Path) -> None:
    vectors, path = unit(300), tmp_path / "index"
    index = kind.build(vectors)
    index.save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"junk" * 50, whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(CorruptError, match=r"is no FAISS index.*build the bundle again"):
            open_index(kind.kind, path, vectors)
    with pytest.raises(CorruptError, match=r"is no FAISS index: .*No such file"):
        open_index(kind.kind, tmp_path / "none", vectors)


def test_a_directory_that_cannot_be_written(unit: Draw, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"writing .*index: .*No such file or directory.*make room"):
        HnswIndex.build(unit(50)).save(tmp_path / "none" / "index")
