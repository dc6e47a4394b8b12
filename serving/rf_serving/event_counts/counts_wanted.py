"""Definitions of what is counted, and weights of events as whole numbers, which all processes add up to the same sums.

Shapes: E events.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.features.event_weights import EventWeights
from rf_platform.features.meanings import EVENT_TYPE
from rf_platform.policies.lists import MOST_WEIGHT
from rf_platform.sql import identifier, literal

PARTS = 100
"""Parts that a weight of 1 has: weights are kept to a hundredth."""


@dataclass(frozen=True, kw_only=True)
class FirstOf:
    """Definition of first times: of the first event of each item."""

    event_types: tuple[str, ...] = ()
    """Events that count, sorted; empty: all that mean that an item was wanted."""


@dataclass(frozen=True, kw_only=True)
class CountOf:
    """Definition of a count: which events, how much each counts, and how soon they are forgotten."""

    half_life_us: int
    """Time after which an event counts half, in microseconds."""
    event_types: tuple[str, ...] = ()
    """Events that count, sorted; empty: all that mean that an item was wanted."""
    weights: EventWeights | None = None
    """Events that one counts as, by its type or a number that it has; None: as 1."""

    def parts_of(self, events: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.int64]:
        """Return the weights of events, given by their values, in parts [E]; one without the number counts as 1."""
        if self.weights is None:
            return np.full(len(events), PARTS)
        if (column := self.weights.column) is not None:
            return np.array([_parts(values.get(column)) for values in events], np.int64)
        of = {name: _parts(weight) for name, weight in self.weights.types}
        return np.array([of.get(str(values.get(EVENT_TYPE)), PARTS) for values in events], np.int64)

    def parts_sql(self, columns: Sequence[str]) -> str:
        """Return the SQL of :meth:`parts_of` over a relation with some columns."""
        if self.weights is None:
            return str(PARTS)
        if (column := self.weights.column) is not None:
            if column not in columns:
                return str(PARTS)
            number = f"CAST({identifier(column)} AS DOUBLE)"
            most = f"floor(least(greatest({number}, 0.0), {MOST_WEIGHT}) * {PARTS} + 0.5)"
            return f"CASE WHEN isfinite({number}) THEN CAST({most} AS BIGINT) ELSE {PARTS} END"
        cases = " ".join(f"WHEN {literal(name)} THEN {_parts(weight)}" for name, weight in self.weights.types)
        return f"CASE CAST({EVENT_TYPE} AS VARCHAR) {cases} ELSE {PARTS} END"


def _parts(weight: Any) -> int:
    if not isinstance(weight, int | float) or not math.isfinite(weight):
        return PARTS
    return math.floor(min(max(float(weight), 0.0), MOST_WEIGHT) * PARTS + 0.5)
