"""Memory of a process that searches."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

from rf_serving.index import VectorIndex


def memory_of(
    open_index: Callable[[], VectorIndex], queries_BD: npt.NDArray[np.float32], k: int, directory: Path
) -> dict[str, int]:
    """Open an index, ask it, and return bytes; nothing where the system does not tell (it is Linux that does).

    Args:
        open_index: loads the index.
        queries_BD: what is asked, one at a time.
        k: number of results.
        directory: where the mapped files lie.
    """
    if not psutil.LINUX:
        return {}
    before = anonymous_bytes()
    index = open_index()
    for row in range(len(queries_BD)):
        index.search(queries_BD[row : row + 1], k)
    mapped = mapped_bytes(directory)
    return {
        "mapped_resident_bytes": mapped["rss"],
        "own_bytes": max(0, anonymous_bytes() - before),
    }


def mapped_bytes(beginning: Path) -> dict[str, int]:
    """Return bytes of mapped files below a path: ``rss`` resident, ``pss`` this process's share, ``private_dirty``."""
    maps = [each for each in psutil.Process().memory_maps() if each.path.startswith(str(beginning.resolve()))]
    return {kind: sum(getattr(each, kind) for each in maps) for kind in ("rss", "pss", "private_dirty")}


def anonymous_bytes() -> int:
    """Return the bytes of this process's pages that belong to no file."""
    return sum(each.anonymous for each in psutil.Process().memory_maps())
