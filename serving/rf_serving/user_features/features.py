"""Features of the user or session of a request.

Values are plain Python: a text, a number or a list, times in microseconds since 1970 (UTC). None is missing, and in the columns
of a history so are NaN and the markers of :mod:`rf_platform.features.spec`. Requests do not pass through Arrow: its
arrays cost more to make than such short columns cost to read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.features.seen import Ids
from rf_platform.policies import SeenRule
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index.vector_index import NO_ROW


class SeenRead(IntEnum):
    """Parts of a seen set that are read."""

    NOTHING = 0
    ITEMS = 1
    EVENTS = 2
    """Items with the type and the time of their events."""


@dataclass(frozen=True, eq=False)
class SeenEvents:
    """Events behind the ids of a seen set, in their order.

    Shapes: S ids, one that was seen with several types as often.
    """

    types_S: npt.NDArray[np.object_]
    seconds_S: npt.NDArray[np.int64]
    """Last event, in seconds since 1970; 0 where it is not known, which counts as just now."""

    def hidden(self, rules: Sequence[SeenRule], now_us: int) -> npt.NDArray[np.bool_]:
        """Return which ids any of some rules hides [S]."""
        hidden_S = np.zeros(len(self.types_S), np.bool_)
        for rule in rules:
            by_rule_S = np.ones(len(self.types_S), np.bool_)
            if rule.event_types:
                by_rule_S &= np.isin(self.types_S.astype(str), rule.event_types)
            if rule.days is not None:
                since = now_us / 1e6 - rule.days * _DAY
                by_rule_S &= (self.seconds_S == 0) | (self.seconds_S >= since)
            hidden_S |= by_rule_S
        return hidden_S


_DAY = 86_400.0


@dataclass(frozen=True, kw_only=True)
class UserFeatures:
    """Profile and history of a user or a visitor, raw; a feature that is not there is missing.

    Shapes: T interactions, oldest first.
    """

    profile: Mapping[str, Any] = field(default_factory=dict)
    """User features by full name."""
    items: Sequence[int | str] = ()
    """[T]: id of each item, in the catalog's type."""
    timestamps: npt.NDArray[np.int64] | None = None
    """[T]: microseconds since 1970, UTC; None if not known."""
    context: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Context features by full name, [T] each, without those of kind timestamp."""
    seen: Ids | None = None
    """Item ids of the seen set, which has the items of the history and all before; None if it was not read, or is not there."""
    seen_events: "SeenEvents | None" = None
    """Types and times of :attr:`seen`; None if they were not read, or are not there."""
    unknown: Sequence[str] = ()
    """Items of a session's history that the catalog does not have, as they were given, each once."""
    moments: Mapping[str, int] | None = None
    """Event timestamp of each view's row in the store, in microseconds since 1970; None if they were not read."""
    read_us: int = 0
    """Moment of a read with these, in microseconds since 1970."""

    def seen_rows(self, known: "KnownFeatures", catalog: CatalogSnapshot) -> npt.NDArray[np.int64]:
        """Return the rows of all items that the user has seen, in no order and some more than once.

        Args:
            known: these features in the catalog's rows.
            catalog: the catalog.
        """
        if self.seen is None:
            return known.rows
        rows = catalog.find_rows(self.seen)
        return np.concatenate([known.rows, rows[rows != NO_ROW]])

    def hidden_rows(
        self, rules: Sequence[SeenRule], known: "KnownFeatures", catalog: CatalogSnapshot, now_us: int
    ) -> npt.NDArray[np.int64]:
        """Return the rows of the items that rules hide, in no order and some more than once.

        Where types and times are not known, every item of the history is hidden if there is a rule.

        Args:
            rules: hide what any of them names.
            known: these features in the catalog's rows.
            catalog: the catalog.
            now_us: the present, in microseconds since 1970.
        """
        if not rules:
            return known.rows[:0]
        if self.seen is None or self.seen_events is None:
            return self.seen_rows(known, catalog)
        hidden = self.seen_events.hidden(rules, now_us)
        ids = self.seen[hidden] if isinstance(self.seen, np.ndarray) else list(compress(self.seen, hidden.tolist()))
        rows: npt.NDArray[np.int64] = catalog.find_rows(ids)
        there: npt.NDArray[np.int64] = rows[rows != NO_ROW]
        return there

    def known(self, catalog: CatalogSnapshot) -> "KnownFeatures":
        """Return the features with the items' rows, without the interactions with items that the catalog never had."""
        return self.with_rows(catalog.rows_of(self.items))

    def with_rows(self, rows: npt.NDArray[np.int64]) -> "KnownFeatures":
        """Return what :meth:`known` returns, given the rows of the items [T] in the catalog."""
        known = rows != NO_ROW
        if known.all():
            return KnownFeatures(self.profile, rows, self.timestamps, self.context)
        kept = known.tolist()
        return KnownFeatures(
            self.profile,
            rows[known],
            None if self.timestamps is None else self.timestamps[known],
            {name: list(compress(column, kept)) for name, column in self.context.items()},
        )


@dataclass(frozen=True)
class KnownFeatures:
    """Profile and history in the rows of one snapshot of the catalog; see :class:`UserFeatures`."""

    profile: Mapping[str, Any]
    rows: npt.NDArray[np.int64]
    """[T]: row of each item."""
    timestamps: npt.NDArray[np.int64] | None
    context: Mapping[str, Sequence[Any]]
    goals: npt.NDArray[np.float32] | None = None
    """Weights over the goals of the bundle's model, as the request names them; None where it names none."""

    @property
    def cold(self) -> bool:
        """Whether there is no history."""
        return len(self.rows) == 0
