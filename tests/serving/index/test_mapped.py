"""Files of an index are mapped: processes share their pages instead of holding copies."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rf_platform.errors import CorruptError
from rf_serving.index import LOCAL_KINDS, IvfPqIndex, VectorIndex, open_index
from rf_serving.index.mapped_lists import lists_path

Draw = Callable[..., np.ndarray]
ITEMS, WIDTH = 6000, 384

PROCESS = """
import json, sys
from pathlib import Path
import numpy as np
from rf_bench.latency.memory import anonymous_bytes, mapped_bytes
from rf_serving.index import ExactIndex, open_index

directory, kind = Path(sys.argv[1]), sys.argv[2]
queries = np.load(directory / "queries.npy")
ExactIndex.build(queries).search(queries[:1], 10)  # what FAISS itself needs
before = anonymous_bytes()
index = open_index(kind, directory / "index.faiss", np.load(directory / "vectors.npy", mmap_mode="r"))
rows = [int(index.search(queries[i : i + 1], 100).rows.sum()) for i in range(len(queries))]
for answer in (
    lambda: {"rows": rows, "own": anonymous_bytes() - before},
    lambda: {"vectors": mapped_bytes(directory / "vectors.npy"), "index": mapped_bytes(directory / "index.")},
):
    print(json.dumps(answer()), flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("kind", LOCAL_KINDS.values(), ids=LOCAL_KINDS)
@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads /proc")
def test_two_processes_share_the_pages(kind: type[VectorIndex], clustered: Draw, tmp_path: Path) -> None:
    vectors = clustered(ITEMS, WIDTH)
    np.save(tmp_path / "vectors.npy", vectors)
    np.save(tmp_path / "queries.npy", clustered(300, WIDTH, seed=1))
    kind.build(vectors).save(tmp_path / "index.faiss")
    on_disk = sum(f.stat().st_size for f in tmp_path.glob("index.*"))
    command = [sys.executable, "-c", PROCESS, str(tmp_path), kind.kind]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]

    def ask() -> list[dict[str, Any]]:
        """Wait until both have answered; then let both go on."""
        answers = []
        for process in processes:
            assert process.stdout is not None
            answers.append(json.loads(process.stdout.readline()))
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return answers

    first, second = ask()
    assert first["rows"] == second["rows"]
    for answer in (first, second):
        assert answer["own"] < vectors.nbytes / 3  # no copy of the vectors
    for answer in ask():
        mapped = answer["vectors"]
        assert mapped["rss"] > 0.8 * vectors.nbytes  # all are read
        assert mapped["private_dirty"] == 0
        assert mapped["pss"] < 0.6 * mapped["rss"]  # a half each
        if on_disk:
            mapped = answer["index"]
            assert mapped["rss"] > 0.5 * on_disk
            assert mapped["private_dirty"] == 0
    for process in processes:
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_lists_of_another_index_are_refused(clustered: Draw, tmp_path: Path) -> None:
    vectors = clustered(2000)
    IvfPqIndex.build(vectors).save(tmp_path / "index.faiss")
    lists = lists_path(tmp_path / "index.faiss")
    whole = lists.read_bytes()
    for damaged in (b"", whole[:-8], whole[:100], whole[8:]):
        lists.write_bytes(damaged)
        with pytest.raises(CorruptError, match=r"index\.lists does not belong"):
            open_index("ivf-pq", tmp_path / "index.faiss", vectors)
    lists.unlink()
    with pytest.raises(CorruptError, match=r"index\.lists cannot be read"):
        open_index("ivf-pq", tmp_path / "index.faiss", vectors)
    lists.write_bytes(whole)
    assert open_index("ivf-pq", tmp_path / "index.faiss", vectors).search(vectors[:1], 1).rows[0, 0] == 0
