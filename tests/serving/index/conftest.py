"""Rows and queries of every kind of index."""

from collections.abc import Callable, Iterator

import faiss
import numpy as np
import numpy.typing as npt
import pytest

from rf_serving.index import INDEX_KINDS, LOCAL_KINDS, VectorIndex

Rows = npt.NDArray[np.float32]
Draw = Callable[..., Rows]


@pytest.fixture(params=list(INDEX_KINDS))
def kind(request: pytest.FixtureRequest) -> type[VectorIndex]:
    if INDEX_KINDS[request.param].remote:
        request.getfixturevalue(request.param)
    return INDEX_KINDS[request.param]


@pytest.fixture(params=[name for name, index in LOCAL_KINDS.items() if not index.exact])
def approximate(request: pytest.FixtureRequest) -> type[VectorIndex]:
    return INDEX_KINDS[request.param]


@pytest.fixture(scope="session")
def unit() -> Draw:
    """Random unit rows: ``unit(rows, width, seed)``."""

    def draw(rows: int, width: int = 16, seed: int = 0) -> Rows:
        x = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
        normalised: Rows = x / np.linalg.norm(x, axis=1, keepdims=True)
        return normalised

    return draw


@pytest.fixture(scope="session")
def clustered(unit: Draw) -> Draw:
    """Unit rows around 60 centres; rows of another seed lie around the same ones: ``clustered(rows, width, seed)``."""

    def draw(rows: int, width: int = 16, seed: int = 0) -> Rows:
        center = np.random.default_rng(seed).integers(0, 60, rows)
        x = unit(60, width, seed=99)[center] + 0.6 * unit(rows, width, seed=seed)
        normalised: Rows = x / np.linalg.norm(x, axis=1, keepdims=True)
        return normalised

    return draw


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Set FAISS's number of threads until the end of the test."""
    before = faiss.omp_get_max_threads()
    yield faiss.omp_set_num_threads
    faiss.omp_set_num_threads(before)
