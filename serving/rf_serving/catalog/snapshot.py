"""The catalog at one moment.

Shapes: N rows, those of the base first, then M of the delta; B queries, K results, T items, D width,
W width of what a re-ranker keeps of an item.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_platform.features.seen import Ids
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.base_segment import BaseSegment
from rf_serving.catalog.item_schema import Values
from rf_serving.catalog.living import living, search_living
from rf_serving.catalog.mem_segment import DeltaView
from rf_serving.index import Found, MilvusIndex
from rf_serving.index.vector_index import NO_ROW

_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True, eq=False, kw_only=True)
class CatalogSnapshot:
    """All items that can be returned, numbered by row; never changes, so a request that holds one sees one catalog.

    Rows mean nothing outside of their snapshot.
    """

    bundle: ServedBundle
    base: BaseSegment
    """The first rows."""
    delta: DeltaView | None = None
    """The rows behind them: items added or changed since the base was made; None if there are none."""
    sequence: int
    """Last change of the catalog that is in it; 0 for a bundle as it was built."""
    live_mask_N: npt.NDArray[np.bool_]
    """[N]: whether the item of the row may be returned; rows of deleted, replaced and not recommendable items may not."""
    alive: int
    """Number of them."""
    alive_base: int
    """Number of them in the base."""
    listed_mask_N: npt.NDArray[np.bool_] | None = None
    """[N]: whether the row is that of an item of the catalog, not of one deleted or replaced; None: as ``live_mask_N``."""

    @classmethod
    def of(cls, bundle: ServedBundle) -> "CatalogSnapshot":
        """Return the catalog of a bundle as it was built."""
        rows = len(bundle.item_ids)
        base = BaseSegment.of(bundle)
        alive = int(np.count_nonzero(base.offered_rows))
        return cls(
            bundle=bundle,
            base=base,
            sequence=0,
            live_mask_N=base.offered_rows,
            listed_mask_N=np.ones(rows, np.bool_),
            alive=alive,
            alive_base=alive,
        )

    @property
    def rows(self) -> int:
        """Number of rows N, those of deleted items included."""
        return len(self.live_mask_N)

    @property
    def delta_items(self) -> pa.Table | None:
        """Ids, features and display fields of the rows behind the base's, in order; None if there are none."""
        return None if self.delta is None else self.delta.items

    def first_ids(self, after: int | str | None, count: int, *, offered: bool = False) -> list[int | str]:
        """Return the ids of the catalog's items in ascending order, or only of those that may be returned.

        Args:
            after: ids up to this one are left out; None: from the first.
            count: how many, at most.
            offered: without those that are not recommendable.
        """
        rows = np.flatnonzero(self.live_mask_N if offered else self.listed)
        first, numbers = self.base.rows, self.base.numbers
        texts = self.bundle.spec.item.id_type == "string"
        live = [] if self.delta is None else self.delta.delta.ids
        added: list[int | str] = [live[row - first] for row in rows[rows >= first].tolist()]
        built = rows[rows < first]
        if texts or numbers is None:  # an empty base has neither
            found = chain(map(self.base.ids.__getitem__, built.tolist()), added)
            return nsmallest(count, found if after is None else (item for item in found if item > after))  # type: ignore[operator]
        number_M = np.concatenate([numbers[built], np.array(added, np.int64)])
        if after is not None:
            number_M = number_M[number_M > after]
        if count < len(number_M):
            number_M = np.partition(number_M, count - 1)[:count]
        return list[int | str](np.sort(number_M).tolist())

    def row_of(self, item: int | str) -> int:
        """Return the row of an item, :data:`NO_ROW` if there never was one; a deleted item may still have one."""
        if self.delta is None:
            return self.base.row_of.get(item, NO_ROW)
        return self.delta.delta.row_of(item, self.rows)

    def rows_of(self, items: Sequence[int | str]) -> npt.NDArray[np.int64]:
        """Return the rows of items [T]; see :meth:`row_of`."""
        if self.delta is None:
            find = self.base.row_of.get
            return np.array([find(item, NO_ROW) for item in items], np.int64)
        return np.fromiter((self.row_of(item) for item in items), np.int64, len(items))

    def live(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which rows are those of items of the catalog, offered or not [T]; :data:`NO_ROW` is none."""
        living_T: npt.NDArray[np.bool_] = rows != NO_ROW
        living_T[living_T] = self.listed[rows[living_T]]
        return living_T

    @property
    def listed(self) -> npt.NDArray[np.bool_]:
        """Mask of the rows that are items of the catalog [N], offered or not."""
        return self.live_mask_N if self.listed_mask_N is None else self.listed_mask_N

    @property
    def listed_base(self) -> int:
        """Number of rows of the base that are those of items of the catalog."""
        return int(np.count_nonzero(self.listed[: self.base.rows]))

    def find_rows(self, ids: Ids | Sequence[int | str]) -> npt.NDArray[np.int64]:
        """Return what :meth:`rows_of` returns, for many ids."""
        rows = self.base.find_rows(ids)
        if self.delta is not None:
            newest = self.delta.delta.row_of
            changed = self.delta.delta.among(ids.tolist() if isinstance(ids, np.ndarray) else ids)
            for place, item in changed:
                rows[place] = newest(item, self.rows)
        return rows

    def texts(self, rows: Iterable[int]) -> list[str]:
        """Return the ids of rows as they are written in replies."""
        first, ids = self.base.rows, self.base.ids
        live = [] if self.delta is None else self.delta.delta.ids
        return [str(ids[row] if row < first else live[row - first]) for row in rows]

    def utf8(self, rows: list[int]) -> list[bytes]:
        """Return :meth:`texts` as bytes."""
        if self.delta is None and (numbers := self.base.numbers) is not None:
            return [b"%d" % number for number in numbers[rows].tolist()]
        return [text.encode() for text in self.texts(rows)]

    def tokens(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return what interactions with the items are made of [T, D]."""
        live = rows >= self.base.rows
        if self.delta is None or not live.any():
            return self.base.tokens_ND[rows]
        tokens_TD = np.empty((len(rows), self.base.tokens_ND.shape[1]), np.float32)
        tokens_TD[~live] = self.base.tokens_ND[rows[~live]]
        tokens_TD[live] = self.delta.tokens_ME[rows[live] - self.base.rows]
        return tokens_TD

    def vectors(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return the vectors that are searched [T, D]."""
        live = rows >= self.base.rows
        if self.delta is None or not live.any():
            return self.base.vectors_ND[rows]
        vectors_TD = np.empty((len(rows), self.base.vectors_ND.shape[1]), np.float32)
        vectors_TD[~live] = self.base.vectors_ND[rows[~live]]
        vectors_TD[live] = self.delta.vectors_MD[rows[live] - self.base.rows]
        return vectors_TD

    def item_states(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
        """Return what the bundle's re-ranker keeps of the items [T, W], as it is stored."""
        built_NW = self.base.item_states_NW
        assert built_NW is not None
        live = rows >= self.base.rows
        if self.delta is None or not live.any():
            return built_NW[rows]
        item_states_TW = np.empty((len(rows), built_NW.shape[1]), built_NW.dtype)
        item_states_TW[~live] = built_NW[rows[~live]]
        item_states_TW[live] = self.delta.item_states_MW[rows[live] - self.base.rows]
        return item_states_TW

    def values(self, rows: npt.NDArray[np.int64]) -> list[Values]:
        """Return the features and display fields of items [T]."""
        live = rows >= self.base.rows
        built, changed = iter(self.base.values(rows[~live])), iter(list[Values]())
        if self.delta is not None and live.any():
            changed = iter(self.base.schema.rows(self.delta.items.take(rows[live] - self.base.rows)))
        return [next(changed if is_live else built) for is_live in live]

    def sequences(self, rows: npt.NDArray[np.int64]) -> list[int]:
        """Return the change that made each item what it is [T]; 0 if it is as the bundle has it."""
        first, built = self.base.rows, self.base.sequence_N
        live = [] if self.delta is None else self.delta.delta.sequences
        return [live[r - first] if r >= first else 0 if built is None else int(built[r]) for r in rows.tolist()]

    def blocks(self, rows: int = _ROWS_AT_ONCE) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Yield the vectors of all rows, dead ones included: slices of at most ``rows``, each with its first row; not copied."""
        parts = [(0, self.base.vectors_ND)]
        if self.delta is not None:
            parts.append((self.base.rows, self.delta.vectors_MD))
        for first, vectors in parts:
            for start in range(0, len(vectors), rows):
                yield first + start, vectors[start : start + rows]

    def search(self, queries_BD: npt.NDArray[np.float32], k: int) -> Found:
        """Return about the ``k`` best living rows of each query [B, K], :data:`NO_ROW` behind the last one of all."""
        k = min(k, self.alive)
        base = self.base
        live_mask_N = self.live_mask_N[: base.rows]
        found = search_living(base.index, base.vectors_ND, live_mask_N, self.alive_base, queries_BD, k)
        return self._with_delta(found, queries_BD, k)

    def search_where(self, queries_BD: npt.NDArray[np.float32], k: int, expression: str) -> Found:
        """Return about the ``k`` best living rows [B, K]: of the base those that an engine lets pass, of those behind it any.

        Args:
            queries_BD: what is searched with.
            k: rows wanted.
            expression: the filter in the language of the engine that the base's index is in.
        """
        assert isinstance(self.base.index, MilvusIndex)
        found = self.base.index.search_where(queries_BD, k, expression)
        return self._with_delta(living(found, self.live_mask_N[: self.base.rows], k), queries_BD, k)

    def _with_delta(self, found: Found, queries_BD: npt.NDArray[np.float32], k: int) -> Found:
        if self.delta is None or self.alive == self.alive_base:
            return found
        live = self._search_delta(queries_BD, k)
        return _best(np.hstack([found.rows, live.rows]), np.hstack([found.scores, live.scores]), k)

    def scan(self, query_D: npt.NDArray[np.float32], rows: npt.NDArray[np.int64] | None = None) -> Found:
        """Score every living row, or those of the given rows that live, and return all of them, best first."""
        if rows is None:
            rows = np.flatnonzero(self.live_mask_N)
            none = np.zeros(0, np.float32)  # a catalog without a row has no blocks
            scores = np.concatenate([none, *(vectors @ query_D for _, vectors in self.blocks())])[rows]
        else:
            rows = rows[self.live_mask_N[rows]]
            scores = self.vectors(rows) @ query_D
        order = np.argsort(-scores, kind="stable")
        return Found(rows=rows[order], scores=scores[order])

    def _search_delta(self, queries_BD: npt.NDArray[np.float32], k: int) -> Found:
        assert self.delta is not None
        first = self.base.rows
        scores_BM = queries_BD @ self.delta.vectors_MD.T
        scores_BM[:, ~self.live_mask_N[first:]] = -np.inf
        rows_BM = np.broadcast_to(np.arange(first, self.rows), scores_BM.shape)
        if k < scores_BM.shape[1]:
            best = np.argpartition(-scores_BM, k - 1, axis=1)[:, :k]
            rows_BM, scores_BM = first + best, np.take_along_axis(scores_BM, best, axis=1)
        return Found(np.where(scores_BM > -np.inf, rows_BM, NO_ROW), scores_BM)


def _best(rows: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], k: int) -> Found:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Found(np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1))
