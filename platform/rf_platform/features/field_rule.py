"""Rule of what a field may have: one for requests, filters, items, events, the catalog's journal and the online store.

Values are plain: texts, numbers and lists, times in microseconds since 1970 (UTC); None is missing. A text counts without the
white space around it, as an import reads it, and an empty one is missing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from rf_platform.features.dtype import Dtype
from rf_platform.features.encode import VECTOR_BOUND, NumericStats
from rf_platform.features.spec import FieldSpec
from rf_platform.literals import PLAIN, READ, Writing, read_list
from rf_platform.text import shown, trimmed
from rf_platform.time_units import mistaken_unit

EXTREME = 1e4
"""Deviations from the mean of the training data that no real number has, unless the training data have it."""
FLOAT32_MAX = float(np.finfo(np.float32).max)
_RANGES = {"Int32": range(-(2**31), 2**31), "Int64": range(-(2**63), 2**63)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = (
    (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1),
    (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1),
)
_ROUNDING = 1 + 1e-6


class UnfitError(ValueError):
    """A value that its field cannot have; the message lacks the field's path, which the caller knows.

    Args:
        problem: of the value.
        remedy: for the sender of a record, which may leave the field out; a filter cannot.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem


@dataclass(frozen=True, kw_only=True)
class FieldRule:
    """Rule of the values of one field."""

    dtype: Dtype
    width: int | None = None
    """Of a dense vector; None for everything else, and where no model is at hand."""
    numeric: NumericStats | None = None
    """Of a numeric field, where a model is at hand: bounds its numbers by :data:`EXTREME`."""
    least: float | None = None
    most: float | None = None
    """Upper end of the range that the import declares for the column, if any."""
    writing: Writing = PLAIN
    """Form of a value that is given as text."""

    def of(self, value: Any) -> Any:
        """Return a value as the field has it, None if it is missing.

        Raises:
            UnfitError: it is of another type, out of the type's range, not finite, an extreme number, or a vector of another
                width.
        """
        if not self.dtype.is_list:
            return self._element(value)
        if value is None:
            return None
        if isinstance(value, str):
            value = self._list(value)
        if not isinstance(value, list | tuple):
            raise UnfitError(f"{shown(value)} is no list, which {self.dtype} is")
        if self.width is not None and _are_usable_floats(value):  # most vectors are, and need no look at each number
            kept = read = list(value)
        else:
            read = [self._element(each) for each in value]
            kept = [each for each in read if each is not None]
        if self.width is None or not kept:
            return kept or None
        if len(read) != self.width or len(kept) != self.width:
            raise UnfitError(f"{len(kept)} numbers are given, but the vector has {self.width}")
        if (largest := max(kept, key=abs)) and abs(largest) > VECTOR_BOUND:
            raise UnfitError(
                f"{shown(largest)} is not a usable number in a vector, whose numbers are up to {VECTOR_BOUND:g}"
            )
        return kept

    def _list(self, text: str) -> list[Any]:
        """Return the elements of a list that is given as text."""
        if not (text := trimmed(text)):
            return []
        found = read_list(text, self.writing)
        if found is None:
            between = f"with {self.writing.separator!r} between its values" if self.writing.separator else "as JSON"
            raise UnfitError(
                f"{shown(text)} is no list, which {self.dtype} is; give several values, or a text {between}"
            )
        return found

    def _element(self, value: Any) -> Any:
        if value is None:
            return None
        element = self.dtype.element
        if isinstance(value, str) and element in READ:
            if not (text := trimmed(value)):
                return None
            read, expected = READ[element]
            if (value := read(text, self.writing)) is None:
                raise UnfitError(f"{shown(text)} is no {element}: expected {expected}")
        match element:
            case "String" if isinstance(value, str):
                return trimmed(value) or None
            case "String" if isinstance(value, int) and not isinstance(value, bool):
                return str(value)
            case "Bool" if isinstance(value, int):
                if value not in (0, 1):
                    raise UnfitError(f"{shown(value)} is given for a Bool feature; 0 or 1 is meant")
                return int(value)
            case "UnixTimestamp" if isinstance(value, int):
                return _time(int(value))
            case "Int32" | "Int64" if isinstance(value, int):
                if value not in _RANGES[element]:
                    raise UnfitError(f"{value} does not fit into {element.removeprefix('Int')} bits")
                return self._usual(int(value))
            case "Float32" | "Float64" if isinstance(value, int | float):
                return self._usual(_finite(value, single=element == "Float32"))
        raise UnfitError(f"{shown(value)} is no {element}")

    def _usual(self, number: Any) -> Any:
        """Return a number that is neither out of range nor extreme."""
        if self.least is not None and number < self.least:
            raise UnfitError(f"{shown(number)} is out of range: expected at least {self.least:g}, as in the import")
        if self.most is not None and number > self.most:
            raise UnfitError(f"{shown(number)} is out of range: expected at most {self.most:g}, as in the import")
        if (stats := self.numeric) is None:
            return number
        most = max(EXTREME, stats.reach or 0.0)
        if abs(stats.deviations(number)) > most * _ROUNDING:
            raise UnfitError(
                f"{shown(number)} is not a usable number: it lies more than {most:,g} deviations ({stats.std:g}) from the mean "
                f"of the training data ({stats.mean:g}); leave out what is missing"
            )
        return number


def rules_of(
    fields: Iterable[FieldSpec], widths: Mapping[str, int], numeric: Mapping[str, NumericStats]
) -> dict[str, FieldRule]:
    """Return what each field may have for a model, by full name; for a field of the history, what one interaction may.

    Args:
        fields: of a feature spec.
        widths: of the model's dense vectors, by full name.
        numeric: mean and deviation of its numbers, by full name.
    """
    return {
        f.name: FieldRule(
            dtype=f.type.single if f.role == "history" else f.type,
            width=widths.get(f.name) if f.kind == "vector" else None,
            numeric=numeric.get(f.name) if f.kind == "numeric" else None,
            writing=f.writing,
        )
        for f in fields
    }


def _are_usable_floats(values: Sequence[Any]) -> bool:
    if {*map(type, values)} != {float}:
        return False
    # A sum with NaN or infinity is not finite either; of the others, smallest and largest tell.
    return math.isfinite(sum(values)) and min(values) >= -FLOAT32_MAX and max(values) <= FLOAT32_MAX


def _finite(value: float, *, single: bool) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or (single and abs(number) > FLOAT32_MAX):
        raise UnfitError(f"{shown(value)} is not a usable number", "leave out what is missing")
    return number


def _time(value: int) -> int:
    if not _TIMES[0] <= value <= _TIMES[1]:
        raise UnfitError(f"{value} is no time from the year 1 to 9999; microseconds since 1970, UTC, are meant")
    if unit := mistaken_unit(value):
        raise UnfitError(unit)
    return value
