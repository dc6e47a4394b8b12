"""From the filter of a request to one that was checked; messages begin with the path of the field at fault."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rf_platform.errors import UsageError
from rf_platform.features.compared import filterable
from rf_platform.features.dtype import Dtype
from rf_platform.features.field_rule import FieldRule, UnfitError
from rf_platform.features.spec import FeatureSpec, IdType
from rf_platform.literals import PLAIN, Writing, read_number, read_whole
from rf_platform.text import shown, trimmed
from rf_protos.v1.features_pb2 import FeatureValue
from rf_protos.v1.filter_pb2 import Filter, Predicate
from rf_serving.search.condition import (
    COMPARISONS,
    PRESENCE,
    SETS,
    Clause,
    Combination,
    Condition,
    ItemFilter,
    Operator,
    Value,
)
from rf_serving.wire.ids import parse_id
from rf_serving.wire.values import given_elements, suggestion


@dataclass(frozen=True, kw_only=True)
class FilterLimits:
    """Limits of one filter."""

    ids: int = 10_000
    """Ids in ``allow_items`` and in ``deny_items``."""
    conditions: int = 32
    """Predicates in ``where``, those within others among them."""
    values: int = 1_000
    """Values of one predicate."""


class FilterReader:
    """Checks filters against the FeatureSpec of a bundle."""

    def __init__(self, spec: FeatureSpec, limits: FilterLimits | None = None) -> None:
        self._id_type: IdType = spec.item.id_type
        self._limits = limits or FilterLimits()
        self._dtypes = filterable(spec)
        self._writing = {f.name: f.writing for f in spec.carried("item")}

    def read(self, given: Filter) -> ItemFilter:
        """Return the filter of a request.

        Raises:
            UsageError: a field is wrong; the message begins with its path, such as ``filter.where[1].feature``.
        """
        return ItemFilter(
            allow=self._ids("filter.allow_items", given.allow_items) if given.allow_items else None,
            deny=self._ids("filter.deny_items", given.deny_items),
            where=self.clauses("filter.where", given.where),
        )

    def clauses(self, path: str, given: Sequence[Predicate]) -> frozenset[Clause]:
        """Return clauses that hold together.

        Args:
            path: of the field that has the predicates, for messages.
            given: the predicates.

        Raises:
            UsageError: one is wrong; the message begins with its path.
        """
        _check_length(path, sum(map(_count, given)), self._limits.conditions, "conditions")
        return frozenset(self._clause(f"{path}[{i}]", each) for i, each in enumerate(given))

    def _ids(self, path: str, texts: Sequence[str]) -> tuple[int | str, ...]:
        _check_length(path, len(texts), self._limits.ids, "ids")
        return tuple(parse_id(text, self._id_type, f"{path}[{i}]") for i, text in enumerate(texts))

    def _clause(self, path: str, given: Predicate) -> Clause:
        parts = given.any or given.all
        if not parts:
            found: Clause = self._condition(path, given)
            return Combination(parts=frozenset((found,)), negated=True) if given.negate else found
        if (given.any and given.all) or given.feature or given.operator or given.HasField("value"):
            raise UsageError(
                f"{path}: set one of `any`, `all`, or a feature with its operator; combine them by nesting"
            )
        path = f"{path}.{'any' if given.any else 'all'}"
        clauses = frozenset(self._clause(f"{path}[{i}]", each) for i, each in enumerate(parts))
        return Combination(parts=clauses, any=bool(given.any), negated=given.negate)

    def _condition(self, path: str, given: Predicate) -> Condition:
        dtype = self._dtypes.get(given.feature)
        if dtype is None:
            raise UsageError(
                f"{path}.feature: {shown(given.feature)} is no feature or display field of items; "
                f"{suggestion(given.feature, self._dtypes)}"
            )
        operator = self._operator(path, given, dtype)
        if operator in PRESENCE:
            if given.HasField("value"):
                raise UsageError(f"{path}.value: {operator} takes none")
            return Condition(feature=given.feature, operator=operator)
        element, writing = dtype.single, self._writing[given.feature]
        try:
            if operator in COMPARISONS:
                values: tuple[Value, ...] = (_bound(operator, given.value, element, writing),)
            else:
                found = given_elements(given.value, element)
                _check_length(f"{path}.value", len(found), self._limits.values, "values")
                values = tuple(sorted({_held(each, element, writing) for each in found}))
        except UnfitError as error:
            raise UsageError(f"{path}.value: {error.problem}") from None
        return Condition(feature=given.feature, operator=operator, values=values)

    def _operator(self, path: str, given: Predicate, dtype: Dtype) -> Operator:
        allowed = operators(dtype)
        name = Predicate.Operator.Name(given.operator) if given.operator in Predicate.Operator.values() else None
        if name is None or name not in allowed:
            said = "none is given" if given.operator == 0 else f"{name or given.operator} does not fit"
            raise UsageError(f"{path}.operator: {said}; {given.feature} is {dtype}: use {', '.join(allowed)}")
        return Operator(name)


def operators(dtype: Dtype) -> tuple[Operator, ...]:
    """Return the operators that fit a dtype."""
    if dtype.is_list:
        return PRESENCE if dtype.is_float else (*SETS, *PRESENCE)  # of floats: a dense vector
    return (*SETS, *(() if dtype.element in ("String", "Bool") else COMPARISONS), *PRESENCE)


def _bound(operator: Operator, value: FeatureValue, element: Dtype, writing: Writing) -> Value:
    case = value.WhichOneof("value")
    if case == "string_value":
        text = trimmed(value.string_value)
        number = None if element.is_time or read_whole(text, writing) is not None else read_number(text, writing)
        if number is None:
            return _held(text, element, writing)
        value, case = FeatureValue(double_value=number), "double_value"
    fits = ("int_value",) if element.is_time else ("int_value", "double_value")
    if case not in fits:
        raise UnfitError(
            f"{case or 'nothing'} is given, but {element} is compared with a number: set {' or '.join(fits)}"
        )
    bound: int | float = getattr(value, case)
    if case == "int_value" or element.is_float:
        return _held(bound, element)
    # Whole numbers below 2.5 are those below 3, and those above it are above 2: no rounding of large ones to float64.
    number = float(_held(bound, Dtype("Float64")))
    return math.ceil(number) if operator in (Operator.LESS, Operator.AT_LEAST) else math.floor(number)


def _held(value: Any, element: Dtype, writing: Writing = PLAIN) -> Value:
    """Return a value as the feature would hold it: a text without white space around it, the float32 next to 0.1.

    Raises:
        UnfitError: no feature of this type has such a value; a whole number may be one that only others have.
    """
    found: Value | None = FieldRule(dtype=Dtype("Int64") if element.is_integer else element, writing=writing).of(value)
    if found is None:
        raise UnfitError(f"{shown(value)} is no value; to ask for items without one use ABSENT")
    return float(np.float32(found)) if element == Dtype("Float32") else found


def _count(given: Predicate) -> int:
    """Return how many predicates there are, with those within."""
    return 1 + sum(map(_count, given.any)) + sum(map(_count, given.all))


def _check_length(path: str, length: int, limit: int, what: str) -> None:
    if length > limit:
        raise UsageError(f"{path}: {length} {what} are given; the limit is {limit}")
