"""The catalog in memory while it changes: one thread at a time changes it and hands out snapshots.

Shapes: N rows.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.base_segment import BaseSegment
from rf_serving.catalog.mem_segment import LiveItems, MemSegment
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index.vector_index import NO_ROW

_SPARE = 256
"""Dead rows behind the base that are worth no copy of the others."""


class _Latest(NamedTuple):
    """The newest change of an item since the base."""

    sequence: int
    row: int
    """:data:`NO_ROW`: it was deleted."""


class CatalogState:
    """A base, the rows that were added behind it, which of all rows are listed, and which of those are offered."""

    def __init__(self, bundle: ServedBundle, base: BaseSegment) -> None:
        self._bundle, self._base, self._delta = bundle, base, MemSegment(base)
        self._latest: dict[int | str, _Latest] = {}
        self._listed_N = np.ones(base.rows, np.bool_)
        self._alive_N = base.offered_rows.copy()
        self._alive = self._alive_base = int(np.count_nonzero(self._alive_N))

    def put(self, items: LiveItems) -> None:
        """Add items, each id once; earlier rows of theirs die."""
        first = self._base.rows + self._delta.rows
        replaced = self._delta.append(items)
        rows = range(first, first + len(items.ids))
        self._latest.update(
            (item, _Latest(sequence, row)) for item, sequence, row in zip(items.ids, items.sequences, rows, strict=True)
        )
        offered = self._base.schema.offered(items.table)
        self._alive += int(np.count_nonzero(offered))
        # Places behind the rows of every snapshot: none sees them change.
        if rows.stop > len(self._alive_N):
            self._alive_N, self._listed_N = _grown(self._alive_N, rows.stop), _grown(self._listed_N, rows.stop)
        self._alive_N[rows.start : rows.stop] = offered
        self._listed_N[rows.start : rows.stop] = True
        self._tombstone(replaced[replaced != NO_ROW])

    def remove(self, sequences: Mapping[int | str, int]) -> None:
        """Remove items, given with the change that removes each; those that are not there stay away."""
        rows = np.array([self._delta.row_of(item) for item in sequences], np.int64)
        self._latest.update((item, _Latest(sequence, NO_ROW)) for item, sequence in sequences.items())
        self._tombstone(rows[rows != NO_ROW])

    def moved_to(self, base: BaseSegment) -> "CatalogState":
        """Return the same catalog on a base that has all changes up to ``base.sequence``; later ones are carried over."""
        return self._on(
            base, {item: latest for item, latest in self._latest.items() if latest.sequence > base.sequence}
        )

    @property
    def crowded(self) -> bool:
        """Whether most rows behind the base are dead."""
        living = sum(latest.row != NO_ROW for latest in self._latest.values())
        return self._delta.rows > 2 * living + _SPARE

    def tidied(self) -> "CatalogState":
        """Return the same catalog without the dead rows behind the base."""
        return self._on(self._base, self._latest)

    def _on(self, base: BaseSegment, later: Mapping[int | str, _Latest]) -> "CatalogState":
        moved = CatalogState(self._bundle, base)
        kept = {item: latest for item, latest in later.items() if latest.row != NO_ROW}
        if kept:
            view = self._delta.view()
            rows = np.array([latest.row for latest in kept.values()], np.int64) - self._base.rows
            moved.put(
                LiveItems(
                    ids=list(kept),
                    sequences=[latest.sequence for latest in kept.values()],
                    table=view.items.take(rows),
                    vectors=view.vectors_MD[rows],
                    tokens=view.tokens_ME[rows],
                    item_states=view.item_states_MW[rows],
                )
            )
        moved.remove({item: latest.sequence for item, latest in later.items() if latest.row == NO_ROW})
        return moved

    def snapshot(self, sequence: int) -> CatalogSnapshot:
        """Return the catalog as it is now, after the change of that number."""
        return CatalogSnapshot(
            bundle=self._bundle,
            base=self._base,
            delta=self._delta.view() if self._delta.rows else None,
            sequence=sequence,
            live_mask_N=self._alive_N[: self._base.rows + self._delta.rows],
            listed_mask_N=self._listed_N[: self._base.rows + self._delta.rows],
            alive=self._alive,
            alive_base=self._alive_base,
        )

    def _tombstone(self, rows: npt.NDArray[np.int64]) -> None:
        rows = rows[self._listed_N[rows]]
        if not len(rows):
            return
        self._listed_N = self._listed_N.copy()
        self._listed_N[rows] = False
        rows = rows[self._alive_N[rows]]
        self._alive_N = self._alive_N.copy()
        self._alive_N[rows] = False
        self._alive -= len(rows)
        self._alive_base -= int(np.count_nonzero(rows < self._base.rows))


def _grown(live_mask_N: npt.NDArray[np.bool_], rows: int) -> npt.NDArray[np.bool_]:
    larger = np.ones(rows + max(256, rows // 8), np.bool_)
    larger[: len(live_mask_N)] = live_mask_N
    return larger
