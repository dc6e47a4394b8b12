"""One bundle, ready to answer: encode, filter, search, re-rank.

Shapes: N rows of the catalog, B requests, D width.
"""

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from rf_platform.errors import DataError, RfError
from rf_protos.v1.retrieval_pb2 import (
    DEGRADED_REASON_UNSPECIFIED,
    RERANK_LIME,
    RERANK_NONE,
    RERANK_UNSPECIFIED,
    DegradedReason,
    Rerank,
    SearchPlan,
    Session,
)
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.encoding import EncodedUser, UserEncoder
from rf_serving.explain import Explainer
from rf_serving.ranking.policy import RerankPolicy
from rf_serving.ranking.stage import Ordered, SecondStage
from rf_serving.retrieval.query import Answer, Query, Ranked, RankRequest
from rf_serving.search.condition import ItemFilter
from rf_serving.search.costs import SearchCosts
from rf_serving.search.eligibility import NO_ROWS, Eligibility
from rf_serving.search.filter_reader import FilterLimits, FilterReader
from rf_serving.search.searcher import Search, Searcher
from rf_serving.stage_timer import StageTimer
from rf_serving.user_features.features import KnownFeatures, UserFeatures
from rf_serving.user_features.offered import OfferedFeatures
from rf_serving.user_features.session import SessionReader

QUICK_SECONDS, QUICK_K, QUICK_SESSION = 1e-3, 100, 100
"""Longest scan of a catalog, most results, and most interactions of a session, of a query that is answered in the event loop."""
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
        self,
        bundle: ServedBundle,
        catalog: Catalog | None = None,
        filter_limits: FilterLimits | None = None,
        reranking: RerankPolicy | None = None,
        offered: OfferedFeatures | None = None,
    ) -> None:
        """Make a bundle ready, and measure what searching its catalog costs.

        Args:
            bundle: what answers.
            catalog: its items; default: as they were when the bundle was built.
            filter_limits: how much a filter may ask for.
            reranking: what orders the items that are found, where a request does not say.
            offered: features that a session may give though the bundle is older; default: none.
        """
        self.bundle = bundle
        self.catalog = catalog or BuiltCatalog(bundle)
        self._sessions, self._encoder = SessionReader(bundle, offered), UserEncoder(bundle)
        self._second_stage = SecondStage(bundle, reranking)
        self.explainer = Explainer(bundle, self._encoder)
        """Says why the items of an answer have their scores."""
        self._filters, self._eligibility = FilterReader(bundle.spec, filter_limits), Eligibility(bundle.spec)
        snapshot = self.catalog.snapshot
        costs = SearchCosts.measure(snapshot)
        self._searcher = Searcher(costs)
        # An approximate index is asked because it is quick; how quick, is measured badly as long as its pages are not in memory.
        index = snapshot.base.index
        scans = index.exact and not index.on_device
        self._scan_seconds = costs.exact(snapshot.alive, snapshot.rows) if scans else 0.0

    def rank(
        self,
        features: UserFeatures | None,
        query: Query,
        watch: StageTimer,
        *,
        degraded: "DegradedReason" = DEGRADED_REASON_UNSPECIFIED,
    ) -> Answer:
        """Answer one query; see :meth:`rank_many`.

        Raises:
            UsageError: a field of the session or of the filter is wrong.
            ConfigError: the query asks for a re-ranker, and the bundle has none.
            DataError: the features cannot be encoded.
        """
        (answer,) = self.rank_many([RankRequest(features=features, query=query, watch=watch, degraded=degraded)])
        if isinstance(answer, RfError):
            raise answer
        return answer

    def rank_many(self, asks: Sequence[RankRequest]) -> list[Answer | RfError]:
        """Answer queries together, from one snapshot of the catalog; what is wrong with one of them is its answer alone.

        A request takes as long as all of them: the times of its stages are those of the batch.
        """
        catalog, second_stage = self.catalog.snapshot, self._second_stage
        done: dict[int, Answer | RfError] = {}
        begin = perf_counter()
        sessions = {number for number, ask in enumerate(asks) if ask.features is None}
        read = self._read(asks, catalog, done)
        orders = {number: each.order for number, each in read.items()}
        encoded = perf_counter()
        users = self._encode(read, catalog, done)
        begun = perf_counter()
        pending = second_stage.begin(users, orders)
        filtered = perf_counter()
        searches = {
            number: self._search(asks[number].query, read[number], user.query_D, catalog)
            for number, user in users.items()
        }
        searched = perf_counter()
        results = dict(zip(searches, self._searcher.find(catalog, list(searches.values())), strict=True))
        found = perf_counter()
        counts = {number: asks[number].query.k for number in results}
        candidates = {number: result.found for number, result in results.items()}
        ordered = second_stage.order(candidates, counts, users, orders, pending, catalog)
        end = perf_counter()
        for number, ask in enumerate(asks):
            if number in sessions:
                ask.watch.record("fetch", begin, encoded - begin)
            if number in read:
                ask.watch.record("encode", encoded, begun - encoded)
            if number in results:
                ask.watch.record("search", searched, found - searched)
                ask.watch.record("filter", filtered, searched - filtered)
                if orders[number] != RERANK_NONE:
                    ask.watch.record("rerank", found, end - found + filtered - begun)
                plan = SearchPlan(strategy=results[number].strategy, eligible=searches[number].eligible.count)
                done[number] = self._answer(ask, read[number].known, plan, ordered[number], catalog)
        return [done[number] for number in range(len(asks))]

    def quick(self, query: Query, order: "Rerank") -> bool:
        """Whether a query takes a millisecond or so, as most do: nothing but a short search of the index."""
        return (
            self._scan_seconds <= QUICK_SECONDS
            and query.k <= QUICK_K
            and query.filter is None
            and not query.explain
            and not (isinstance(query.subject, Session) and len(query.subject.history) > QUICK_SESSION)
            and order == RERANK_NONE
        )

    def order_of(self, query: Query) -> "Rerank":
        """Return what orders the items of a query's answer, if there is a history.

        Raises:
            ConfigError: the query asks for a re-ranker, and the bundle has none.
        """
        return self._second_stage.order_of(query.rerank)

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
        """Warm caches for a catalog that is going to be served, so that no request waits for them; from any thread.

        Args:
            catalog: the new snapshot.
            like: engine with the filters to expect; default: this one.
        """
        if self.bundle.spec.item.id_type == "int64":
            catalog.base.find_rows(NO_ROWS)
        self._eligibility.warm(catalog, None if like is None else like._eligibility)

    def _read(
        self, asks: Sequence[RankRequest], catalog: CatalogSnapshot, done: dict[int, Answer | RfError]
    ) -> dict[int, "_Read"]:
        read: dict[int, _Read] = {}
        for number, ask in enumerate(asks):
            try:
                if ask.features is None:
                    assert isinstance(ask.query.subject, Session)
                    ask.features = self._sessions.read(ask.query.subject, catalog)
                asked = _NO_FILTER if ask.query.filter is None else self._filters.read(ask.query.filter)
                known = ask.features.known(catalog)
                seen = ask.features.seen_rows(known, catalog) if ask.query.exclude_seen else NO_ROWS
                order = ask.order if ask.order != RERANK_UNSPECIFIED else self.order_of(ask.query)
                if known.cold and order == RERANK_LIME:
                    order = RERANK_NONE  # a re-ranker reads the history
                read[number] = _Read(known, seen, asked, order)
            except RfError as error:
                done[number] = error
        return read

    def _encode(
        self, read: Mapping[int, "_Read"], catalog: CatalogSnapshot, done: dict[int, Answer | RfError]
    ) -> dict[int, EncodedUser]:
        users: dict[int, EncodedUser] = {}
        if read:
            encoded = self._encoder.encode_users([each.known for each in read.values()], catalog)
            for number, user in zip(read, encoded, strict=True):
                if isinstance(user, DataError):
                    done[number] = user
                else:
                    users[number] = user
        return users

    def _search(
        self, query: Query, read: "_Read", query_D: npt.NDArray[np.float32], catalog: CatalogSnapshot
    ) -> Search:
        return Search(
            query_D=query_D,
            k=self._second_stage.candidates(read.order, query.k, catalog),
            eligible=self._eligibility.of(catalog, read.filter),
            seen=read.seen,
            filtered=read.filter != _NO_FILTER,
        )

    def _answer(
        self, ask: RankRequest, known: KnownFeatures, plan: SearchPlan, ordered: Ordered, catalog: CatalogSnapshot
    ) -> Answer:
        found, rerank = ordered
        ranked = None
        if ask.query.explain:
            ranked = Ranked(known=known, catalog=catalog, rows_K=found.rows, rerank=rerank)
        return Answer(
            bundle=self.bundle.name,
            spec_hash=self.bundle.manifest.spec_hash,
            items=catalog.texts(found.rows.tolist()),
            scores=found.scores.tolist(),
            history=catalog.texts(known.rows.tolist()) if ask.query.history else [],
            cold=known.cold,
            plan=plan,
            sequence=catalog.sequence,
            seconds=ask.watch.seconds,
            begins=ask.watch.begins,
            degraded=ask.degraded,
            rerank=rerank,
            ranked=ranked,
        )


class _Read(NamedTuple):
    """A checked request."""

    known: KnownFeatures
    seen: npt.NDArray[np.int64]
    """Rows to leave out."""
    filter: ItemFilter
    order: "Rerank"
