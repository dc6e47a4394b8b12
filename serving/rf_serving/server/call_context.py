"""Context of a call, from the servicer to the log line."""

import os
import re
from collections.abc import Mapping
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
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By stage."""
    begins: Mapping[str, float] = field(default_factory=dict)
    """Start of each stage, by :func:`time.perf_counter`."""
    request_id: str = ""


_USABLE_ID = re.compile(r"[\x21-\x7e]{1,128}")


def request_id_of(context: Any) -> str:
    """Return the id that the caller gave its request, or a new one."""
    given = next((value for key, value in context.invocation_metadata() or () if key == REQUEST_ID), None)
    return given if isinstance(given, str) and _USABLE_ID.fullmatch(given) else os.urandom(16).hex()


_call: ContextVar[Call] = ContextVar("call")


def begin_call(request_id: str = "") -> Call:
    """Make a new call the current one of this task."""
    call = Call(request_id=request_id)
    _call.set(call)
    return call


def current_request_id() -> str:
    """Return the id of the call that is being answered; empty outside one."""
    call = _call.get(None)
    return "" if call is None else call.request_id


def annotate(**values: Any) -> None:
    """Add values to the log line of the call that is being answered."""
    if (call := _call.get(None)) is not None:
        call.notes.update(values)


def annotate_stages(seconds: dict[str, float], begins: dict[str, float]) -> None:
    """Record the stage timings of the call."""
    if (call := _call.get(None)) is not None:
        call.seconds, call.begins = seconds, begins
