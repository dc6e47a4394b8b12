"""Context of a call, from the servicer to the log line."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

REQUEST_ID = "x-request-id"
"""Metadata key: taken from the caller or made here, returned in the trailing metadata and in every log line."""


@dataclass(eq=False)
class Call:
    """Filled while a call is answered."""

    notes: dict[str, Any] = field(default_factory=dict)
    """For the log line."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage."""
    begins: dict[str, float] = field(default_factory=dict)
    """Start of each stage, by :func:`time.perf_counter`."""


_call: ContextVar[Call] = ContextVar("call")


def begin_call() -> Call:
    """Make a new call the current one of this task."""
    call = Call()
    _call.set(call)
    return call


def annotate(**values: Any) -> None:
    """Add values to the log line of the call that is being answered."""
    if (call := _call.get(None)) is not None:
        call.notes.update(values)


def annotate_stages(seconds: dict[str, float], begins: dict[str, float]) -> None:
    """Record the stage timings of the call."""
    if (call := _call.get(None)) is not None:
        call.seconds, call.begins = seconds, begins
