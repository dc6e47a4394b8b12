"""Difference between a value that was served and the one that training sees: what kind, and by how much time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isnan
from typing import Any

from rf_platform.features.dtype import MISSING_INTEGER, MISSING_STRING, Dtype


class Status(StrEnum):
    """Kinds of difference."""

    EQUAL = "equal"
    STALE = "stale"
    """It was true earlier."""
    EARLY = "early"
    """It was true only later: a leak."""
    NEVER = "never true"
    """No row of the tables says so, at any time."""
    MISSING = "missing"
    """Nothing was served, and training sees a value."""
    ENCODED = "encoded differently"
    """The value is the same, and the bundle makes another model input of it than the data that it was trained on."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Comparison of one field of one request."""

    status: Status
    seconds: float = 0.0
    """Of a stale value: how long it had not been true. Of an early one: how long before it became true. Of a missing one: how
    long there had been a value."""
    events: int = 0
    """Of a history: interactions that are lacking, negative where it has too many."""
    claims: bool = False
    """Of a stale history: whether the time of its row says that the store had the newest interaction."""
    shift: float | None = None
    """Of times: by how many seconds what was served is later than the truth, where one number says it."""


EQUAL = Difference(status=Status.EQUAL)


@dataclass(frozen=True)
class Version:
    """A value, and from when on it was known, in microseconds since 1970."""

    known_us: int
    value: Any


def compare(served: Any, truth: Any, versions: Sequence[Version], at_us: int) -> Difference:
    """Return how a served value differs from what held at a moment.

    Args:
        served: the value, as :func:`plain` has it.
        truth: what training sees, in the same form; null where nothing holds.
        versions: all values of the entity, by rising time from which they were known.
        at_us: the moment, in microseconds since 1970.
    """
    if served == truth:
        return EQUAL
    past = [each for each in versions if each.known_us < at_us]
    if served is None:
        since = next((v.known_us for v in _run_of(past, truth)), at_us)
        return Difference(status=Status.MISSING, seconds=(at_us - since) / 1e6)
    for place in range(len(past) - 1, -1, -1):
        if past[place].value == served:
            ended = next((v.known_us for v in past[place + 1 :] if v.value != served), past[place].known_us)
            return Difference(status=Status.STALE, seconds=(at_us - ended) / 1e6)
    for version in versions[len(past) :]:
        if version.value == served:
            return Difference(status=Status.EARLY, seconds=(version.known_us - at_us) / 1e6)
    return Difference(status=Status.NEVER)


def _run_of(past: Sequence[Version], truth: Any) -> Sequence[Version]:
    """Return the last versions that all have the value that holds."""
    start = len(past)
    while start and past[start - 1].value == truth:
        start -= 1
    return past[start:]


def plain(dtype: Dtype) -> Callable[[Any], Any]:
    """Return a function that brings values of a type into one form: what stores keep alike is equal, what is missing is None.

    Floats of 32 bits are compared as such, times in whole seconds; an empty list is none, and markers in lists are None.
    """
    if dtype.is_list:
        element = plain(dtype.single)
        return lambda values: tuple(element(value) for value in values) if values is not None and len(values) else None
    if dtype.is_time:
        return lambda value: None if value is None else value // 1_000_000
    if dtype.element == "Float32":
        return _float32
    if dtype.is_float:
        return lambda value: None if value is None or isnan(value) else float(value)
    if dtype.is_integer:
        return lambda value: None if value is None or value == MISSING_INTEGER else int(value)
    if dtype.element == "Bool":
        return lambda value: None if value is None else bool(value)
    return lambda value: None if value is None or value == MISSING_STRING else str(value)


def _float32(value: float | None) -> float | None:
    import numpy as np

    return None if value is None or isnan(value) else float(np.float32(value))
