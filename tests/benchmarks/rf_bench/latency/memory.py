"""What a process that searches holds in memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rf_serving.index import VectorIndex

SMAPS = Path("/proc/self/smaps")
_KINDS = ("Rss", "Pss", "Private_Dirty", "Anonymous")


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
    if not SMAPS.exists():
        return {}
    before = anonymous_bytes()
    index = open_index()
    for row in range(len(queries_BD)):
        index.search(queries_BD[row : row + 1], k)
    mapped = mapped_bytes(directory)
    return {
        "mapped_resident_bytes": mapped["Rss"],
        "own_bytes": max(0, anonymous_bytes() - before),
    }


def mapped_bytes(beginning: Path) -> dict[str, int]:
    """Return bytes of pages of files whose path begins so: ``Rss`` resident, ``Pss`` this process's share, ``Private_Dirty``."""
    return _sum(lambda name: name.startswith(str(beginning.resolve())))


def anonymous_bytes() -> int:
    """Return the bytes of this process's pages that belong to no file."""
    return _sum(lambda name: True)["Anonymous"]


def _sum(counts: Callable[[str], bool]) -> dict[str, int]:
    total = dict.fromkeys(_KINDS, 0)
    counted = False
    for line in SMAPS.read_text().splitlines():
        key, _, rest = line.partition(":")
        if "-" in line.split(" ", 1)[0]:  # a new mapping: address range, rights, offset, device, inode, file
            fields = line.split(maxsplit=5)
            counted = counts(fields[5] if len(fields) > 5 else "")
        elif counted and key in total:
            total[key] += int(rest.split()[0]) * 1024
    return total
