"""FAISS as the indexes use it: untyped, its errors as errors of the platform with what was being done to an index and the remedy.

FAISS raises ``RuntimeError`` with a C++ function, a file and a line, ``MemoryError`` for a failed allocation on the CPU, and
``AssertionError`` without a word where its Python side finds arguments that do not fit; :mod:`rf_platform.failures.models` knows
how they look.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import faiss as _faiss

from rf_platform.errors import CorruptError, RfError, RunError, UnavailableError
from rf_platform.failures.models import faiss_reason, lacks_memory
from rf_platform.failures.system import first_line, in_text

faiss: Any = _faiss
"""FAISS without its type stubs: they lack much of what is used here, and contradict some of it."""
CPU = "this machine"
"""Owner of the memory where no device is concerned."""


@contextmanager
def faiss_errors(doing: str, remedy: str, error: type[RfError] = RunError, where: str = CPU) -> Iterator[None]:
    """Translate what FAISS raises inside the block.

    Args:
        doing: what was tried, as in "searching the index".
        remedy: what to do about it, as in "build the bundle again".
        error: what is raised, unless memory was short.
        where: what computes.

    Raises:
        UnavailableError: there was not enough memory.
        RfError: of the kind ``error``, for anything else, unless the disk is full or may not be written.
    """
    try:
        yield
    except (RuntimeError, MemoryError, AssertionError) as cause:
        reason = faiss_reason(cause) or first_line(cause)
        if lacks_memory(cause):
            raise UnavailableError(
                f"{doing}: {where} has not enough memory ({reason}); {_more_memory(where)}"
            ) from cause
        if (system := in_text(reason)) is not None and system.machine:
            raise system.kind(f"{doing}: {system.reason('that file')}; {system.remedy}") from cause
        raise error(f"{doing}: FAISS failed ({reason}); {remedy}") from cause


def building() -> AbstractContextManager[None]:
    """Translate what FAISS raises where an index is learned or filled."""
    return faiss_errors("building the index", "look for vectors that are not finite, or build with --kind exact")


def searching() -> AbstractContextManager[None]:
    """Translate what FAISS raises of a search on the CPU."""
    return faiss_errors("searching the index", "build the bundle again")


def reading(path: Path) -> AbstractContextManager[None]:
    """Translate what FAISS raises of a file that it cannot read: :class:`CorruptError`."""
    return faiss_errors(f"{path} is no FAISS index", "build the bundle again", CorruptError)


def writing(path: Path) -> AbstractContextManager[None]:
    """Translate what FAISS raises of a file that it cannot write."""
    return faiss_errors(f"writing {path}", "make room on that disk, or make the directory writable")


def _more_memory(where: str) -> str:
    if where == CPU:
        return "free some, or build a smaller index: `rf index build --kind ivf-pq`"
    return "free some, choose another device with RF_INDEX_DEVICE=cuda:N, or search on the CPU with RF_INDEX_DEVICE=cpu"


def read_faiss(path: Path, flags: int = 0) -> Any:
    """Read a FAISS file.

    Raises:
        CorruptError: it is none, or it is not there.
    """
    with reading(path):
        return faiss.read_index(str(path), flags)
