"""Difference between a served history and the one that training slices from the log of events."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from rf_platform.skew.difference import EQUAL, Difference, Status
from rf_platform.skew.truth import EventTruth

_FAR = 500
"""Most interactions between a served history and the true one for which it is looked."""


def compare_history(
    served: Sequence[Any] | None, name: str, truth: EventTruth, at_us: int, length: int, moment_s: int | None
) -> Difference:
    """Return how a served array differs from the last interactions before a moment.

    Args:
        served: the array, as :func:`~rf_platform.skew.difference.plain` has it.
        name: full name of the field.
        truth: the user's events.
        at_us: the moment, in microseconds since 1970.
        length: interactions that the store keeps.
        moment_s: event timestamp of the served row, in seconds since 1970; None: it is not known.
    """
    values, times = truth.columns.get(name, []), truth.times_us
    now = bisect_left(times, at_us)

    def window(end: int) -> tuple[Any, ...] | None:
        return tuple(values[max(0, end - length) : end]) or None

    if served == window(now) or (served is None and all(value is None for value in values[:now])):
        return EQUAL
    if served is None:
        return Difference(status=Status.MISSING, seconds=(at_us - times[0]) / 1e6, events=min(now, length))
    for lacking in range(1, min(now, _FAR) + 1):
        if served == window(now - lacking):
            since = times[now - lacking]
            claims = moment_s is not None and moment_s >= times[now - 1] // 1_000_000
            return Difference(status=Status.STALE, seconds=(at_us - since) / 1e6, events=lacking, claims=claims)
    for more in range(1, min(len(times) - now, _FAR) + 1):
        if served == window(now + more):
            return Difference(status=Status.EARLY, seconds=(times[now + more - 1] - at_us) / 1e6, events=-more)
    held = window(now) or ()
    for off, other in ((1, held[1:]), (-1, tuple(values[max(0, now - length - 1) : now]))):
        if served == other:  # the right end, and one interaction too few or too many at the other
            return Difference(status=Status.NEVER, events=off, claims=True)
    return Difference(status=Status.NEVER, shift=_shift(served, window(now)))


def _shift(served: Sequence[Any], truth: Sequence[Any] | None) -> float | None:
    """Return by how much all served numbers are later than the true ones; None where it is not one number."""
    if truth is None or len(truth) != len(served) or not all(isinstance(v, int) for v in (*served, *truth)):
        return None
    shifts = {a - b for a, b in zip(served, truth, strict=True)}
    return float(shifts.pop()) if len(shifts) == 1 else None
