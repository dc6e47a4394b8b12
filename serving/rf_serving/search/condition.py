"""A filter that was checked."""

from dataclasses import dataclass
from enum import StrEnum

Value = str | int | float


class Operator(StrEnum):
    """Comparison of a condition, by the names of :class:`rf_protos.v1.filter_pb2.Predicate`."""

    ANY_OF = "ANY_OF"
    NONE_OF = "NONE_OF"
    ALL_OF = "ALL_OF"
    LESS = "LESS"
    AT_MOST = "AT_MOST"
    GREATER = "GREATER"
    AT_LEAST = "AT_LEAST"
    PRESENT = "PRESENT"
    ABSENT = "ABSENT"


SETS = (Operator.ANY_OF, Operator.NONE_OF, Operator.ALL_OF)
COMPARISONS = (Operator.LESS, Operator.AT_MOST, Operator.GREATER, Operator.AT_LEAST)
PRESENCE = (Operator.PRESENT, Operator.ABSENT)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition on one feature; equal conditions let the same items pass."""

    feature: str
    """Full name."""
    operator: Operator
    values: tuple[Value, ...] = ()
    """Distinct and sorted for :data:`SETS`, one for :data:`COMPARISONS`, none for :data:`PRESENCE`."""


@dataclass(frozen=True, kw_only=True)
class Combination:
    """Clauses of which all hold, or at least one does."""

    parts: "frozenset[Clause]"
    any: bool = False
    """Whether one is enough."""
    negated: bool = False
    """Whether exactly the other items pass."""


Clause = Condition | Combination


@dataclass(frozen=True, kw_only=True)
class ItemFilter:
    """Filter of the items that may be returned: those that pass all its parts."""

    allow: tuple[int | str, ...] | None = None
    """Only these ids; None for all."""
    deny: tuple[int | str, ...] = ()
    """None of these ids."""
    where: frozenset[Clause] = frozenset()
    """All of these hold."""
