"""From the filter of a request to one that was checked; messages begin with the path of the field at fault."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from rf_platform.data.blank import trimmed
from rf_platform.errors import UsageError
from rf_platform.features.field_rule import FLOAT32_MAX, element_of
from rf_platform.features.spec import FeatureSpec, IdType
from rf_platform.text import shown
from rf_platform.time_units import mistaken_unit
from rf_protos.v1.features_pb2 import FeatureValue
from rf_protos.v1.filter_pb2 import Filter, Predicate
from rf_serving.search.condition import COMPARISONS, PRESENCE, SETS, Condition, ItemFilter, Operator, Value
from rf_serving.wire.ids import parse_id

_CASES = {
    "String": "string",
    "Int32": "int",
    "Int64": "int",
    "Bool": "int",
    "UnixTimestamp": "int",
    "Float32": "double",
    "Float64": "double",
}
"""Of a feature's elements: ``string_value`` and ``string_list`` fit a text."""
_ORDERED = ("Int32", "Int64", "Float32", "Float64", "UnixTimestamp")


@dataclass(frozen=True, kw_only=True)
class FilterLimits:
    """How much one filter may ask for."""

    ids: int = 10_000
    """Ids in ``allow_items`` and in ``deny_items``."""
    conditions: int = 32
    """Predicates in ``where``."""
    values: int = 1_000
    """Values of one predicate."""


class FilterReader:
    """Checks filters against the FeatureSpec of a bundle."""

    def __init__(self, spec: FeatureSpec, limits: FilterLimits | None = None) -> None:
        self._id_type: IdType = spec.item.id_type
        self._limits = limits or FilterLimits()
        self._dtypes = filterable(spec)

    def read(self, given: Filter) -> ItemFilter:
        """Return the filter of a request.

        Raises:
            UsageError: a field is wrong; the message begins with its path, such as ``filter.where[1].feature``.
        """
        _check_length("filter.where", len(given.where), self._limits.conditions, "conditions")
        return ItemFilter(
            allow=self._ids("filter.allow_items", given.allow_items) if given.allow_items else None,
            deny=self._ids("filter.deny_items", given.deny_items),
            where=frozenset(self._condition(f"filter.where[{i}]", each) for i, each in enumerate(given.where)),
        )

    def _ids(self, path: str, texts: Sequence[str]) -> tuple[int | str, ...]:
        _check_length(path, len(texts), self._limits.ids, "ids")
        return tuple(parse_id(text, self._id_type, f"{path}[{i}]") for i, text in enumerate(texts))

    def _condition(self, path: str, given: Predicate) -> Condition:
        dtype = self._dtypes.get(given.feature)
        if dtype is None:
            raise UsageError(
                f"{path}.feature: {shown(given.feature)} is no feature or display field of items; "
                f"{_meant(given.feature, list(self._dtypes))}"
            )
        operator = self._operator(path, given, dtype)
        if operator in PRESENCE:
            if given.HasField("value"):
                raise UsageError(f"{path}.value: {operator} takes none")
            return Condition(feature=given.feature, operator=operator)
        element = element_of(dtype)
        if operator in COMPARISONS:
            bound = _bound(f"{path}.value", operator, given.value, element)
            return Condition(feature=given.feature, operator=operator, values=(bound,))
        values = self._values(f"{path}.value", given.value, element)
        return Condition(feature=given.feature, operator=operator, values=values)

    def _operator(self, path: str, given: Predicate, dtype: str) -> Operator:
        allowed = operators(dtype)
        name = Predicate.Operator.Name(given.operator) if given.operator in Predicate.Operator.values() else None
        if name is None or name not in allowed:
            said = "none is given" if given.operator == 0 else f"{name or given.operator} does not fit"
            raise UsageError(f"{path}.operator: {said}; {given.feature} is {dtype}: use {', '.join(allowed)}")
        return Operator(name)

    def _values(self, path: str, value: FeatureValue, element: str) -> tuple[Value, ...]:
        fits = _CASES[element]
        case = value.WhichOneof("value")
        if case not in (f"{fits}_value", f"{fits}_list"):
            raise UsageError(
                f"{path}: {case or 'nothing'} is given, but the feature holds {element}: set {fits}_value or {fits}_list"
            )
        found = getattr(value, case)
        given: list[Any] = list(found.values) if case.endswith("_list") else [found]
        if not given:
            raise UsageError(f"{path}: the list is empty; give at least one value")
        _check_length(path, len(given), self._limits.values, "values")
        if fits == "double":
            given = [_number(path, each, element) for each in given]
        elif fits == "string":
            given = [_text(path, each) for each in given]
        elif element == "UnixTimestamp":
            given = [_time(path, each) for each in given]
        if element == "Bool" and (wrong := next((each for each in given if each not in (0, 1)), None)) is not None:
            raise UsageError(f"{path}: {wrong} is given for a Bool feature; 0 or 1 is meant")
        return tuple(sorted(set(given)))


def filterable(spec: FeatureSpec) -> dict[str, str]:
    """Return the dtype of every item feature and display field that filters can ask about, by full name."""
    fields = (f for f in spec.carried("item") if f.role != "label")
    return {f.name: f.dtype for f in fields if element_of(f.dtype) in _CASES}


def operators(dtype: str) -> tuple[Operator, ...]:
    """Return the operators that fit a dtype."""
    if dtype.startswith("Array(Float"):
        # A dense vector.
        return PRESENCE
    return (*SETS, *(COMPARISONS if dtype in _ORDERED else ()), *PRESENCE)


def _bound(path: str, operator: Operator, value: FeatureValue, element: str) -> int | float:
    case = value.WhichOneof("value")
    fits = ("int_value",) if element == "UnixTimestamp" else ("int_value", "double_value")
    if case not in fits:
        raise UsageError(
            f"{path}: {case or 'nothing'} is given, but {element} is compared with a number: set {' or '.join(fits)}"
        )
    bound: int | float = getattr(value, case)
    if element == "UnixTimestamp":
        return _time(path, int(bound))
    if _CASES[element] == "double":
        return _number(path, float(bound), element)
    if case == "int_value":
        return bound
    # Whole numbers below 2.5 are those below 3, and those above it are above 2: no rounding of large ones to float64.
    number = _number(path, bound, element)
    return math.ceil(number) if operator in (Operator.LESS, Operator.AT_LEAST) else math.floor(number)


def _number(path: str, number: float, element: str) -> float:
    """Return a number as the feature would hold it: a Float32 feature has no 0.1, but its neighbour."""
    if not math.isfinite(number) or (element == "Float32" and abs(number) > FLOAT32_MAX):
        raise UsageError(f"{path}: {number} is not a usable number")
    return float(np.float32(number)) if element == "Float32" else number


def _text(path: str, text: str) -> str:
    """Return a text as items have it: without white space around it, and never empty."""
    if not (found := trimmed(text)):
        raise UsageError(f"{path}: {shown(text)} is no value; to ask for items without one use ABSENT")
    return found


def _time(path: str, timestamp_us: int) -> int:
    if unit := mistaken_unit(timestamp_us):
        raise UsageError(f"{path}: {unit}")
    return timestamp_us


def _meant(name: str, known: list[str]) -> str:
    close = get_close_matches(name[:200], known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known are {', '.join(known[:10])}{', …' if len(known) > 10 else ''}" if known else "there are none"


def _check_length(path: str, length: int, limit: int, what: str) -> None:
    if length > limit:
        raise UsageError(f"{path}: {length} {what} are given; the limit is {limit}")
