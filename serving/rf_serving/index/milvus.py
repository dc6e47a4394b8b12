"""The index of kind milvus: a graph that a Milvus cluster holds and walks, and a short list scored exactly here.

The file of such an index has the rows by the numbers of their points; vectors, graph and what filters ask about are in the
cluster, in a collection that belongs to one bundle. The collection follows the live catalog: a compaction writes the changed
items into it, and no item is indexed twice.

Shapes: N items, B queries, S candidates, K results, D width.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from rf_platform.cli.console import track
from rf_platform.errors import ConfigError, CorruptError, IndexAwayError
from rf_serving.index.approximate import ApproximateIndex, Effort, Efforts
from rf_serving.index.exact import best_of, exact_search
from rf_serving.index.hnsw import UNTUNED
from rf_serving.index.milvus_server import (
    BUILD_WIDTH,
    LINKS,
    MOST_RESULTS,
    POINTS_AT_ONCE,
    PREFIX,
    Collection,
    MilvusServer,
)
from rf_serving.index.points import PointRows, Points, PushedField, point_id, read_fields
from rf_serving.index.vector_index import NO_ROW, Found

_MOST_WIDTH = 32_768
"""The largest ef that Milvus takes."""
_SHARES = (1, 1.25, 1.5, 2, 2.5, 3, 4, 6, 8, 12, 16, 32, 64)
_NONE = np.iinfo(np.int64).min


class MilvusIndex(ApproximateIndex):
    """A graph (HNSW) in a Milvus cluster: for catalogs that one machine cannot hold or search."""

    kind: ClassVar[str] = "milvus"
    title: ClassVar[str] = "Milvus"
    remote: ClassVar[bool] = True

    def __init__(
        self,
        vectors_ND: npt.NDArray[np.float32],
        efforts: Efforts,
        collection: Collection | None,
        rows: PointRows,
        fields: tuple[PushedField, ...] = (),
    ) -> None:
        super().__init__(vectors_ND, efforts)
        self._collection, self._rows = collection, rows
        self.fields = fields
        """Features that the engine filters by."""

    @classmethod
    def build(cls, vectors_ND: npt.NDArray[np.float32]) -> Self:
        """Index rows that have no ids: their numbers are."""
        return cls.build_points(vectors_ND, Points(ids=range(len(vectors_ND))))

    @classmethod
    def build_points(cls, vectors_ND: npt.NDArray[np.float32], points: Points) -> Self:
        """Write items into a new collection.

        Raises:
            IndexAwayError: Milvus does not answer.
            ConfigError: ``RF_INDEX_URL`` is not set, or there is no client.
        """
        rows, efforts = PointRows.of(points.ids), Efforts([UNTUNED])
        if not len(vectors_ND):
            return cls(vectors_ND, efforts, None, rows, points.fields)
        server = MilvusServer.configured()
        collection = Collection.create(server, PREFIX + uuid4().hex, vectors_ND.shape[1], points.fields)
        try:
            with track("writing items to Milvus", -(-len(vectors_ND) // POINTS_AT_ONCE) + 1) as progress:
                for batch in points.batches(vectors_ND, POINTS_AT_ONCE):
                    collection.insert(batch)
                    progress.advance()
                collection.settle()
                progress.advance(note="indexed")
        except BaseException:
            with suppress(IndexAwayError):
                collection.drop()
            raise
        return cls(vectors_ND, efforts, collection, rows, points.fields)

    def grown(
        self,
        vectors_ND: npt.NDArray[np.float32],
        ids: Sequence[int | str],
        live: Points,
        gone: Sequence[int | str],
        change: int,
    ) -> Self:
        """Return the index of a compacted catalog, in the same collection.

        Args:
            vectors_ND: all rows of the new index; the last ones are those of ``live``.
            ids: of all rows.
            live: items that were added or changed.
            gone: ids of the items that were deleted.
            change: last change of the catalog that the new index knows.
        """
        if self._collection is None:
            return self.build_points(vectors_ND, live) if len(live.ids) == len(ids) else self.build(vectors_ND)
        first = len(ids) - len(live.ids)
        for batch in live.batches(vectors_ND[first:], POINTS_AT_ONCE // 2):
            self._collection.upsert(batch)
        self._collection.delete([point_id(item) for item in gone], change)
        self._collection.await_points([point_id(item) for item in live.ids])
        return type(self)(vectors_ND, self.efforts, self._collection, PointRows.of(ids), self.fields)

    def save(self, path: Path) -> None:
        """Write the rows by the numbers of their points."""
        with path.open("wb") as file:
            np.save(file, self._rows.table_2N)

    @classmethod
    def load(cls, path: Path, vectors_ND: npt.NDArray[np.float32], settings: Mapping[str, Any]) -> Self:
        """Map the numbers of the points, and find the collection.

        Raises:
            CorruptError: the file is no such index, or an index of other rows.
            IndexAwayError: Milvus does not answer.
            ConfigError: it has no such collection, ``RF_INDEX_URL`` is not set, or there is no client.
        """
        try:
            table_2N = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise CorruptError(f"{path} is no index of kind milvus; build the bundle again") from error
        if table_2N.shape != (2, len(vectors_ND)):
            rows, width = vectors_ND.shape
            raise CorruptError(f"{path} is no index of {rows} rows of {width}; build the bundle again")
        efforts, fields = Efforts.read(settings) or Efforts([UNTUNED]), read_fields(settings.get("filters", ()))
        if not len(vectors_ND):
            return cls(vectors_ND, efforts, None, PointRows(table_2N), fields)
        server, name = MilvusServer.configured(), settings.get("collection", "")
        if name not in server.call("opening the index", "list_collections"):
            raise ConfigError(
                f"{path}: Milvus at {server.shown} has no collection {name!r}; look at RF_INDEX_URL, or build the bundle again"
            )
        collection = Collection(server, name)
        server.load(name)
        return cls(vectors_ND, efforts, collection, PointRows(table_2N), fields)

    def search(self, queries_BD: npt.NDArray[np.float32], k: int) -> Found:
        """Return the ``k`` best rows of each query, [B, K] with K = min(k, N)."""
        if min(k, self.items) > MOST_RESULTS:
            return exact_search(self._vectors_ND, self.as_queries(queries_BD), k)
        return super().search(queries_BD, k)

    def search_with(self, queries_BD: npt.NDArray[np.float32], k: int, effort: Effort) -> Found:
        """Return the ``k`` best rows of the short list, by their exact scores."""
        return best_of(self._vectors_ND, queries_BD, self.candidates(queries_BD, effort), k)

    def search_where(self, queries_BD: npt.NDArray[np.float32], k: int, expression: str) -> Found:
        """Return the ``k`` best rows of each query that pass a filter [B, K], :data:`NO_ROW` behind them if they are fewer.

        Args:
            queries_BD: what is searched with.
            k: rows wanted.
            expression: the filter, in the engine's language.
        """
        k, queries_BD = min(k, self.items, MOST_RESULTS), self.as_queries(queries_BD)
        effort = self.efforts.of(k)
        return best_of(self._vectors_ND, queries_BD, self._found(queries_BD, k, effort.probes, expression), k)

    def candidates(self, queries_BD: npt.NDArray[np.float32], effort: Effort) -> npt.NDArray[np.int64]:
        """Return what Milvus finds."""
        return self._found(queries_BD, max(effort.refine_k, effort.k), effort.probes)

    def _found(
        self, queries_BD: npt.NDArray[np.float32], count: int, width: int, expression: str = ""
    ) -> npt.NDArray[np.int64]:
        assert self._collection is not None
        count = min(count, self.items, MOST_RESULTS)
        numbers_BS = self._collection.search(queries_BD, count, min(width, _MOST_WIDTH), expression)
        rows_BS = self._rows.find(numbers_BS, NO_ROW)
        rows_BS[numbers_BS == _NONE] = NO_ROW
        order = np.argsort(rows_BS == NO_ROW, axis=1, kind="stable")  # those of other catalogs last
        return np.ascontiguousarray(np.take_along_axis(rows_BS, order, axis=1))

    def to_device(self, number: int) -> None:
        """Stay where it is: the cluster searches."""

    def discard(self) -> None:
        """Remove the collection, as far as Milvus answers."""
        if self._collection is not None:
            with suppress(IndexAwayError):
                self._collection.drop()

    @property
    def most_results(self) -> float:
        """Most results of a search; the vectors are scanned for more."""
        return MOST_RESULTS

    def probes(self, k: int) -> Sequence[int]:
        """Return ef from ``k`` on."""
        return sorted({min(int(max(k, 16) * share), _MOST_WIDTH) for share in _SHARES})

    def refine_ks(self, k: int) -> Sequence[int]:
        """Return ``k`` alone: the graph has the vectors as they are."""
        return [k]

    def cost(self, effort: Effort) -> float:
        """Return the candidates kept, each of which has its links scored."""
        return effort.probes

    @property
    def settings(self) -> dict[str, Any]:
        """Collection, links, efConstruction, features filtered by, and the tuned efforts; ``probes`` is ef."""
        return {
            "collection": "" if self._collection is None else self._collection.name,
            "links": LINKS,
            "build_width": BUILD_WIDTH,
            "filters": [each.plain() for each in self.fields],
            "efforts": self.efforts.plain(),
        }
