"""Features of the user or session of a request.

Values are plain Python: a text, a number or a list, times in microseconds since 1970 (UTC). None is missing, and in the columns
of a history so are NaN and the markers of :mod:`rf_platform.features.spec`. Requests do not pass through Arrow: its
arrays cost more to make than such short columns cost to read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.features.seen import Ids
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index.vector_index import NO_ROW


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

    def known(self, catalog: CatalogSnapshot) -> "KnownFeatures":
        """Return the features with the items' rows, without the interactions with items that the catalog never had."""
        rows = catalog.rows_of(self.items)
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

    @property
    def cold(self) -> bool:
        """Whether there is no history."""
        return len(self.rows) == 0
