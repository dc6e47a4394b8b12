"""Inverted lists of a fast-scan index in a file that is mapped, not read.

FAISS keeps the 4-bit codes of 32 rows interleaved in blocks, and can map lists of plain codes only. A block of 32 rows has as
many bytes as 32 plain codes, so lists of plain codes with a capacity rounded up to whole blocks have room for them, and
the search reads them through the same pointers.

File: for each list its blocks, then the row numbers (int64, room for whole blocks); at the end the sizes of all lists (int64).
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.errors import CorruptError
from rf_platform.failures import translated
from rf_serving.index.faiss_library import faiss, reading

BLOCK = 32
"""Rows in a block (FAISS: ``bbs``)."""
_ID_BYTES = 8


def lists_path(path: Path) -> Path:
    """Return the file beside an index that holds its lists."""
    return path.with_suffix(".lists")


def write_lists(index: Any, path: Path) -> None:
    """Write the inverted lists of ``index``, an ``IndexIVFPQFastScan`` in memory."""
    lists = faiss.downcast_InvertedLists(index.invlists)
    sizes = np.array([lists.list_size(number) for number in range(index.nlist)], np.int64)
    with path.open("wb") as file:
        for number, (size, room) in enumerate(zip(sizes.tolist(), _room(sizes).tolist(), strict=True)):
            if size:
                faiss.rev_swig_ptr(lists.get_codes(number), room * _code_bytes(index)).tofile(file)
                faiss.rev_swig_ptr(lists.get_ids(number), size).tofile(file)
                np.zeros(room - size, np.int64).tofile(file)
        sizes.tofile(file)


def attach_lists(index: Any, path: Path) -> None:
    """Map the lists of an index that was written without them.

    Raises:
        CorruptError: the file is missing or has another length than its lists need.
    """
    end = index.nlist * _ID_BYTES
    with (
        translated(f"{path} cannot be read", "build the bundle again", CorruptError, place=path),
        path.open("rb") as file,
    ):
        length = file.seek(0, 2)
        file.seek(max(0, length - end))
        sizes = np.fromfile(file, np.int64, index.nlist)
    room = _room(sizes)
    record = _code_bytes(index) + _ID_BYTES
    offsets = np.cumsum(room * record) - room * record
    if len(sizes) != index.nlist or (sizes < 0).any() or length != int(room.sum()) * record + end:
        raise CorruptError(f"{path} does not belong to the index beside it; build the bundle again")
    mapped = faiss.OnDiskInvertedLists()
    mapped.read_only = True
    mapped.filename = str(path)
    mapped.nlist, mapped.code_size = index.nlist, _code_bytes(index)
    mapped.prefetch_nthread = (
        0  # what is asked for again and again is in memory: threads would cost more than they save
    )
    mapped.lists.resize(index.nlist)
    table = np.ascontiguousarray(np.stack([sizes, room, offsets], axis=1).astype(np.uint64))
    faiss.memcpy(mapped.lists.data(), faiss.swig_ptr(table), table.nbytes)
    mapped.totsize = length
    with reading(path):
        mapped.do_mmap()
    mapped.this.disown()  # the index frees it
    index.replace_invlists(mapped, True)


def write_detached(index: Any, path: Path) -> None:
    """Write ``index`` to a file without its lists."""
    lists, owned = index.invlists, index.own_invlists
    empty = faiss.ArrayInvertedLists(index.nlist, _code_bytes(index))
    index.own_invlists = False
    index.replace_invlists(empty, False)
    try:
        faiss.write_index(index, str(path))
    finally:
        index.replace_invlists(lists, owned)


def _code_bytes(index: Any) -> int:
    """Bytes of a row's code: 4 bits for each of an even number of parts."""
    return int(index.M2) // 2


def _room(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the sizes rounded up to whole blocks."""
    return -(-sizes // BLOCK) * BLOCK
