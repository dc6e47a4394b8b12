"""One bundle, ready to answer: encode, filter, search.

Shapes: N rows of the catalog, B requests, D width.
"""

from collections.abc import Sequence
from time import perf_counter
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rf_platform.errors import DataError, RfError
from rf_protos.v1.retrieval_pb2 import SearchPlan, Session
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.filtering.condition import ItemFilter
from rf_serving.filtering.costs import SearchCosts
from rf_serving.filtering.eligibility import NO_ROWS, Eligibility
from rf_serving.filtering.reader import FilterLimits, FilterReader
from rf_serving.retrieval.features import KnownFeatures, UserFeatures
from rf_serving.retrieval.query import Answer, Ask, Query
from rf_serving.retrieval.searcher import Result, Search, Searcher
from rf_serving.retrieval.session import SessionReader
from rf_serving.retrieval.stopwatch import Stopwatch
from rf_serving.retrieval.user_encoder import UserEncoder

_NO_FILTER = ItemFilter()


class Catalog(Protocol):
    """Gives the catalog of a bundle as it is now."""

    @property
    def snapshot(self) -> CatalogSnapshot:
        """The newest one; cheap, and safe from any thread."""


class BuiltCatalog:
    """The catalog of a bundle as it was built."""

    def __init__(self, bundle: ServedBundle) -> None:
        self.snapshot = CatalogSnapshot.of(bundle)


class Engine:
    """Answers from one bundle; reads no store and waits for nothing. Replaced as a whole when another bundle takes over.

    Safe from any thread; several threads give no more answers than one under Python's lock.
    """

    def __init__(
        self, bundle: ServedBundle, catalog: Catalog | None = None, filter_limits: FilterLimits | None = None
    ) -> None:
        """Make a bundle ready, and measure what searching its catalog costs.

        Args:
            bundle: what answers.
            catalog: its items; default: as they were when the bundle was built.
            filter_limits: how much a filter may ask for.
        """
        self.bundle = bundle
        self.catalog = catalog or BuiltCatalog(bundle)
        self._sessions, self._encoder = SessionReader(bundle), UserEncoder(bundle)
        self._filters, self._eligibility = FilterReader(bundle.spec, filter_limits), Eligibility(bundle.spec)
        self._searcher = Searcher(SearchCosts.measure(self.catalog.snapshot))

    def rank(self, features: UserFeatures | None, query: Query, watch: Stopwatch, *, degraded: bool = False) -> Answer:
        """Answer one query; see :meth:`rank_many`.

        Raises:
            UsageError: a field of the session or of the filter is wrong.
            DataError: the features cannot be encoded.
        """
        (answer,) = self.rank_many([Ask(features=features, query=query, watch=watch, degraded=degraded)])
        if isinstance(answer, RfError):
            raise answer
        return answer

    def rank_many(self, asks: Sequence[Ask]) -> list[Answer | RfError]:
        """Answer queries together, from one snapshot of the catalog; what is wrong with one of them is its answer alone.

        A request takes as long as all of them: the times of its stages are those of the batch.
        """
        catalog = self.catalog.snapshot
        done: dict[int, Answer | RfError] = {}
        begin = perf_counter()
        known, filters = self._read(asks, catalog, done)
        encoded = perf_counter()
        queries = self._encode(known, catalog, done)
        filtered = perf_counter()
        searches = {
            number: self._search(asks[number], known[number], filters[number], query_D, catalog)
            for number, query_D in queries.items()
        }
        searched = perf_counter()
        results = dict(zip(searches, self._searcher.find(catalog, list(searches.values())), strict=True))
        end = perf_counter()
        for number, ask in enumerate(asks):
            if ask.session is not None:
                ask.watch.took("fetch", begin, encoded - begin)
            if number in known:
                ask.watch.took("encode", encoded, filtered - encoded)
            if number in results:
                ask.watch.took("search", searched, end - searched)
                ask.watch.took("filter", filtered, searched - filtered)
                done[number] = self._answer(ask, known[number], searches[number], results[number], catalog)
        return [done[number] for number in range(len(asks))]

    def allowed(self, query: Query, catalog: CatalogSnapshot) -> npt.NDArray[np.bool_]:
        """Return which rows live and pass the query's filter [N], before seen items are left out.

        Raises:
            UsageError: a field of the filter is wrong.
        """
        asked = _NO_FILTER if query.filter is None else self._filters.read(query.filter)
        eligible = self._eligibility.of(catalog, asked)
        allowed_N = np.zeros(catalog.rows, np.bool_)
        allowed_N[eligible.passing.rows] = True
        allowed_N[eligible.denied] = False
        return allowed_N

    def warm(self, catalog: CatalogSnapshot, like: "Engine | None" = None) -> None:
        """Make ready for a catalog that is going to be served, from any thread: no request waits for what a filter needs.

        Args:
            catalog: what is going to be served.
            like: the engine whose filters are to be expected; default: this one.
        """
        self._eligibility.warm(catalog, None if like is None else like._eligibility)

    def _read(
        self, asks: Sequence[Ask], catalog: CatalogSnapshot, done: dict[int, Answer | RfError]
    ) -> tuple[dict[int, KnownFeatures], dict[int, ItemFilter]]:
        known: dict[int, KnownFeatures] = {}
        filters: dict[int, ItemFilter] = {}
        for number, ask in enumerate(asks):
            try:
                if ask.features is None:
                    assert isinstance(ask.query.subject, Session)
                    ask.features = self._sessions.read(ask.query.subject, catalog)
                filters[number] = _NO_FILTER if ask.query.filter is None else self._filters.read(ask.query.filter)
                known[number] = ask.features.known(catalog)
            except RfError as error:
                done[number] = error
        return known, filters

    def _encode(
        self, known: dict[int, KnownFeatures], catalog: CatalogSnapshot, done: dict[int, Answer | RfError]
    ) -> dict[int, npt.NDArray[np.float32]]:
        queries: dict[int, npt.NDArray[np.float32]] = {}
        if known:
            for number, query_D in zip(known, self._encoder.encode(list(known.values()), catalog), strict=True):
                if isinstance(query_D, DataError):
                    done[number] = query_D
                else:
                    queries[number] = query_D
        return queries

    def _search(
        self,
        ask: Ask,
        known: KnownFeatures,
        asked: ItemFilter,
        query_D: npt.NDArray[np.float32],
        catalog: CatalogSnapshot,
    ) -> Search:
        return Search(
            query_D=query_D,
            k=ask.query.k,
            eligible=self._eligibility.of(catalog, asked),
            seen=known.rows if ask.query.exclude_seen else NO_ROWS,
            filtered=asked != _NO_FILTER,
        )

    def _answer(
        self, ask: Ask, known: KnownFeatures, search: Search, result: Result, catalog: CatalogSnapshot
    ) -> Answer:
        return Answer(
            bundle=self.bundle.name,
            spec_hash=self.bundle.manifest.spec_hash,
            items=catalog.texts(result.found.rows.tolist()),
            scores=result.found.scores.tolist(),
            history=catalog.texts(known.rows.tolist()),
            cold=known.cold,
            plan=SearchPlan(strategy=result.strategy, eligible=search.eligible.count),
            sequence=catalog.sequence,
            seconds=ask.watch.seconds,
            begins=ask.watch.begins,
            degraded=ask.degraded,
        )
