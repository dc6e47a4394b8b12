"""Errors of FAISS as errors of the platform: the one place that knows how they look.

FAISS raises ``RuntimeError`` with a C++ function, a file and a line, ``MemoryError`` for a failed allocation on the CPU, and
``AssertionError`` without a word where its Python side finds arguments that do not fit.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from rf_platform.errors import CorruptError, RfError, RunError, UnavailableError

_ORIGIN = re.compile(r"^Error in .*? at \S+:\d+: (?:Error: )?(?:'(?P<condition>.*)' failed(?:: )?)?", re.DOTALL)
"""What stands before the reason: the C++ function, its place, and the condition that did not hold."""
_NO_MEMORY = re.compile(r"out of memory|alloc fail|cudaMalloc|ALLOC_FAILED", re.IGNORECASE)
CPU = "this machine"
"""What lacks memory where no device is concerned."""


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
        RfError: of the kind ``error``, for anything else.
    """
    try:
        yield
    except (RuntimeError, MemoryError, AssertionError) as cause:
        reason = reason_of(cause)
        if isinstance(cause, MemoryError) or _NO_MEMORY.search(str(cause)):
            raise UnavailableError(
                f"{doing}: {where} has not enough memory ({reason}); {_more_memory(where)}"
            ) from cause
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


def reason_of(cause: BaseException) -> str:
    """Return the part of an error of FAISS that tells a person something."""
    text = str(cause).strip()
    if not text:
        return "the number or the width of the rows does not fit" if isinstance(cause, AssertionError) else repr(cause)
    origin = _ORIGIN.match(text)
    if origin is None:
        return text
    return text[origin.end() :].strip() or f"'{origin['condition']}' does not hold"


def _more_memory(where: str) -> str:
    if where == CPU:
        return "free some, or build a smaller index: `rf index build --kind ivf-pq`"
    return "free some, choose another device with RF_INDEX_DEVICE=cuda:N, or search on the CPU with RF_INDEX_DEVICE=cpu"
