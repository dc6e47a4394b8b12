"""Failures of what computes: FAISS, torch, ONNX Runtime."""

import re
from typing import Any

from rf_platform.errors import CorruptError, RunError, UnavailableError
from rf_platform.failures.failure import RESTORE, Failure
from rf_platform.failures.system import first_line, in_text, of_memory

_FAISS = re.compile(r"^Error in .*? at \S+:\d+: (?:Error: )?(?:'(?P<condition>.*)' failed(?:: )?)?", re.DOTALL)
"""Prefix of FAISS's reason: the C++ function, its place, and the condition that did not hold."""
_NO_MEMORY = re.compile(r"out of memory|alloc fail|can't allocate memory|cudaMalloc|ALLOC_FAILED", re.IGNORECASE)
_NO_DIRECTORY = re.compile(r"Parent directory (.*) does not exist")
_UNREADABLE = re.compile(r"PytorchStreamReader|zip archive|Weights only load|unpickl|invalid load key", re.IGNORECASE)


def faiss_reason(error: BaseException) -> str | None:
    """Return the part of an error of FAISS that tells a person something; None for another library's."""
    text = str(error).strip()
    if isinstance(error, AssertionError) and not text:
        return "the number or the width of the rows does not fit"
    origin = _FAISS.match(text)
    if origin is None:
        return None
    return text[origin.end() :].strip() or f"'{origin['condition']}' does not hold"


def lacks_memory(error: BaseException) -> bool:
    """Return whether an allocation failed, on this machine or on a device."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


def of_runtime(error: BaseException) -> Failure | None:
    """Return the failure behind a ``RuntimeError`` of FAISS or torch; anything else is a bug."""
    text = str(error)
    if lacks_memory(error):
        return of_memory(error)
    reason = faiss_reason(error)
    if reason is not None:
        remedy = "build the bundle again"
        return in_text(reason) or Failure(kind=RunError, what=f"FAISS failed ({reason})", remedy=remedy)
    if (missing := _NO_DIRECTORY.search(text)) is not None:
        return in_text(f"No such file or directory: '{missing[1]}'")
    if _UNREADABLE.search(text):
        return of_torch_file(error)
    return (
        in_text(text) if text.startswith(("[enforce fail", "PytorchStream", "basic_ios", "unable to write")) else None
    )


def of_torch_file(error: BaseException) -> Failure:
    """Return the failure of a file of weights that cannot be read, or may not: weights and plain values are loaded only."""
    said = first_line(error).split(". ")[0]
    return Failure(kind=CorruptError, what=f"it holds no weights that can be read: {said}", remedy=RESTORE)


def of_device_memory(error: BaseException) -> Failure:
    """Return the failure of an allocation on a device."""
    said = first_line(error).split(". ")[0]
    return Failure(
        kind=UnavailableError,
        what=f"the device has not enough memory ({said})",
        remedy="free some, use smaller batches, or choose another device",
        machine=True,
    )


def of_onnx_run(error: BaseException) -> Failure | None:
    """Return the failure of a graph for which there is no memory."""
    return of_memory(error) if lacks_memory(error) else None


def of_onnx(error: Any) -> Failure:
    """Return the failure of a graph that cannot be read."""
    said = first_line(error).rpartition(" : ")[2]
    return in_text(said) or Failure(kind=CorruptError, what=said, remedy="build the bundle again")
