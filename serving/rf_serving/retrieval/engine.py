"""One bundle, ready to answer: encode, filter, search, re-rank.

Shapes: N rows of the catalog, B requests, D width.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from time import perf_counter
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from rf_platform.errors import DataError, RfError
from rf_platform.features.expiry import now_us
from rf_platform.policies.sources import MODEL
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
from rf_serving.event_counts import Counted
from rf_serving.explain import Explainer
from rf_serving.lists import Lists
from rf_serving.policies import MOST_CANDIDATES, Asked, Candidates, CompiledPlacement, Ruled, Rules
from rf_serving.ranking.policy import RerankPolicy
from rf_serving.ranking.stage import Ordered, SecondStage
from rf_serving.retrieval.candidate_sources import CandidateSources, SourcePlan
from rf_serving.retrieval.query import Answer, Query, Ranked, RankRequest, subject_key
from rf_serving.retrieval.quick_ranker import QuickAnswer, QuickRanker
from rf_serving.retrieval.similar_ranker import SimilarAnswer, SimilarQuery, SimilarRanker
from rf_serving.search.condition import ItemFilter
from rf_serving.search.costs import SearchCosts
from rf_serving.search.eligibility import NO_ROWS, Eligibility
from rf_serving.search.filter_reader import FilterLimits, FilterReader
from rf_serving.search.searcher import Search, Searcher
from rf_serving.stage_timer import StageTimer
from rf_serving.user_features.features import KnownFeatures, SeenRead, UserFeatures
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
        counted: Callable[[], Counted | None] = lambda: None,
        co_occurrence: float = 0.0,
    ) -> None:
        """Make a bundle ready, and measure what searching its catalog costs.

        Args:
            bundle: what answers.
            catalog: its items; default: as they were when the bundle was built.
            filter_limits: how much a filter may ask for.
            reranking: what orders the items that are found, where a request does not say.
            offered: features that a session may give though the bundle is older; default: none.
            counted: returns the counts of events, for lists and co-occurrence; None: there are none.
            co_occurrence: its share in the score of similar items, where a request does not say.
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
        self.rules = Rules(bundle, self._eligibility)
        """Applies the rules of placements."""
        self._quick = QuickRanker(bundle, self._encoder, self._sessions, self._eligibility, self._searcher)
        self._similar = SimilarRanker(
            bundle, self._filters, self._eligibility, self._searcher, self.rules, counted, co_occurrence
        )
        self._sources = CandidateSources(self._similar, Lists(self._eligibility, counted))
        # An approximate index is asked because it is quick; how quick, is measured badly as long as its pages are not in memory.
        # One of another machine is waited for, never by the event loop.
        index = snapshot.base.index
        scans = index.exact and not index.on_device
        self._scan_seconds = costs.exact(snapshot.alive, snapshot.rows) if scans else math.inf if index.remote else 0.0

    def rank(
        self,
        features: UserFeatures | None,
        query: Query,
        watch: StageTimer,
        *,
        degraded: "DegradedReason" = DEGRADED_REASON_UNSPECIFIED,
        rules: CompiledPlacement | None = None,
    ) -> Answer:
        """Answer one query; see :meth:`rank_many`.

        Raises:
            UsageError: a field of the session or of the filter is wrong.
            ConfigError: the query asks for a re-ranker, and the bundle has none.
            DataError: the features cannot be encoded.
        """
        ask = RankRequest(features=features, query=query, watch=watch, degraded=degraded, rules=rules)
        (answer,) = self.rank_many([ask])
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
        counts = {number: read[number].wanted for number in results}
        candidates = {number: result.found for number, result in results.items()}
        ordered = second_stage.order(candidates, counts, users, orders, pending, catalog)
        end = perf_counter()
        ruled = {
            number: self._rule(asks[number].query, read[number], searches[number], ordered[number], catalog)
            for number in results
            if read[number].rules is not None
        }
        followed = perf_counter()
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
                if number in ruled:
                    ask.watch.record("rules", end, followed - end)
                strategy, listed = results[number].strategy, read[number].plan.without_user
                if listed and number in ruled and listed in ruled[number].sources:
                    strategy = SearchPlan.LISTED
                plan = SearchPlan(strategy=strategy, eligible=searches[number].eligible.count)
                known = read[number].known
                done[number] = self._answer(ask, known, plan, ordered[number], ruled.get(number), catalog)
        return [done[number] for number in range(len(asks))]

    def rank_quick(
        self, asked: Sequence[tuple[Query, UserFeatures | None]], fetched: tuple[float, float] | None = None
    ) -> list[QuickAnswer | RfError]:
        """Answer queries that are all :meth:`plain`, as :meth:`rank_many` does; see :meth:`QuickRanker.rank`."""
        return self._quick.rank(asked, self.catalog.snapshot, fetched)

    def similar(self, query: SimilarQuery, watch: StageTimer, rules: CompiledPlacement | None = None) -> SimilarAnswer:
        """Answer a query for similar items; see :meth:`SimilarRanker.rank`."""
        return self._similar.rank(query, self.catalog.snapshot, watch, rules)

    def quickly_similar(self, query: SimilarQuery) -> bool:
        """Whether a query for similar items takes a millisecond or so: nothing but a short search of the index."""
        return (
            bool(query.items)
            and query.filter is None
            and not query.placement
            and not self._similar.share_of(query)
            and query.k <= QUICK_K
            and self._scan_seconds <= QUICK_SECONDS
        )

    def quick(self, query: Query, order: "Rerank", rules: CompiledPlacement | None = None) -> bool:
        """Whether a query takes a millisecond or so, as most do: nothing but a short search of the index."""
        return (
            self._scan_seconds <= QUICK_SECONDS
            and query.k <= QUICK_K
            and self.plain(query, order, rules)
            and not (isinstance(query.subject, Session) and len(query.subject.history) > QUICK_SESSION)
        )

    def plain(self, query: Query, order: "Rerank", rules: CompiledPlacement | None = None) -> bool:
        """Whether a query asks for nothing but the best items, so that :meth:`rank_quick` can answer it."""
        return query.filter is None and not query.explain and order == RERANK_NONE and rules is None and not query.seen

    def order_of(self, query: Query) -> "Rerank":
        """Return what orders the items of a query's answer, if there is a history.

        Raises:
            ConfigError: the query asks for a re-ranker, and the bundle has none.
        """
        return self._second_stage.order_of(query.rerank)

    def check_goals(self, goals: Mapping[str, float]) -> None:
        """Check that the model knows some goals.

        Raises:
            UsageError: it does not know one, or a weight is none.
            UnsupportedError: it has none.
        """
        self._encoder.goals_of(goals)

    def allowed(
        self, query: Query, catalog: CatalogSnapshot, rules: CompiledPlacement | None = None
    ) -> npt.NDArray[np.bool_]:
        """Return which rows live and pass the filters of query and rules [N], before seen items are left out.

        Raises:
            UsageError: a field of the filter is wrong.
        """
        eligible = self._eligibility.of(catalog, self._filter(query, rules))
        allowed_N = np.zeros(catalog.rows, np.bool_)
        allowed_N[eligible.passing.rows] = True
        allowed_N[eligible.denied] = False
        return allowed_N

    def encode(self, users: Sequence[KnownFeatures]) -> list[npt.NDArray[np.float32] | DataError]:
        """Return the vector to search with of each user [D], or why there is none."""
        encoded = self._encoder.encode_users(users, self.catalog.snapshot)
        return [each if isinstance(each, DataError) else each.query_D for each in encoded]

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
                    events = ask.query.seen_read(ask.rules) == SeenRead.EVENTS
                    ask.features = self._sessions.read(ask.query.subject, catalog, events=events)
                asked = self._filter(ask.query, ask.rules)
                known = ask.features.known(catalog)
                if goals := ask.query.goals or (ask.rules.placement.goals if ask.rules is not None else None):
                    known = replace(known, goals=self._encoder.goals_of(goals))
                seen = _hidden(ask, ask.features, known, catalog)
                order = ask.order if ask.order != RERANK_UNSPECIFIED else self.order_of(ask.query)
                if known.cold and order == RERANK_LIME:
                    order = RERANK_NONE  # a re-ranker reads the history
                plan = SourcePlan.of(ask.rules, ask.query, known, self._filters)
                wanted = ask.query.k if ask.rules is None else ask.rules.wanted(ask.query.k)
                read[number] = _Read(known, seen, asked, order, ask.rules, plan, wanted)
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

    def _filter(self, query: Query, rules: CompiledPlacement | None) -> ItemFilter:
        """Return the filter of a request together with that of its placement."""
        asked = _NO_FILTER if query.filter is None else self._filters.read(query.filter)
        return asked if rules is None else replace(asked, where=asked.where | rules.eligibility)

    def _rule(self, query: Query, read: "_Read", search: Search, ordered: Ordered, catalog: CatalogSnapshot) -> Ruled:
        assert read.rules is not None
        found = ordered.found
        merged = self._sources.merged(read.plan, search, found.rows, read.known.rows, catalog)
        first = Candidates(found.rows, found.scores) if merged is None else Candidates(*merged[0])

        def deeper() -> Candidates | None:
            """Return more candidates: those behind the ones of a re-ranker in the order of the search."""
            most = min(max(MOST_CANDIDATES, read.wanted), search.eligible.passing.count - len(search.excluded))
            if len(found.rows) >= most:
                return None
            (result,) = self._searcher.find(catalog, [replace(search, k=most)])
            rows, scores = result.found.rows, result.found.scores
            behind = ~np.isin(rows, first.rows)
            rows, scores = rows[behind], scores[behind]
            if len(first.scores) and len(scores):
                scores = scores - max(0.0, float(scores[0] - first.scores[-1]))
            sources = None if first.sources is None else [*first.sources, *[MODEL] * len(rows)]
            return Candidates(np.concatenate([first.rows, rows]), np.concatenate([first.scores, scores]), sources)

        asked = Asked(
            k=query.k,
            query_D=search.query_D,
            filter=read.filter,
            eligible=search.eligible,
            excluded=search.excluded,
            seed=partial(_seed, query, read, catalog),
            reasons=query.explain,
            origins=None if merged is None else merged[1].reasons,
        )
        return self.rules.apply(read.rules, first, asked, catalog, deeper)

    def _search(
        self, query: Query, read: "_Read", query_D: npt.NDArray[np.float32], catalog: CatalogSnapshot
    ) -> Search:
        return Search(
            query_D=query_D,
            k=self._second_stage.candidates(read.order, read.wanted, catalog),
            eligible=self._eligibility.of(catalog, read.filter),
            seen=read.seen,
            filtered=read.filter != _NO_FILTER,
            where=read.filter.where if read.filter.allow is None else frozenset(),
        )

    def _answer(
        self,
        ask: RankRequest,
        known: KnownFeatures,
        plan: SearchPlan,
        ordered: Ordered,
        ruled: Ruled | None,
        catalog: CatalogSnapshot,
    ) -> Answer:
        found, rerank = ordered
        rows = found.rows.tolist() if ruled is None else ruled.rows
        ranked = None
        if ask.query.explain:
            ranked = Ranked(known=known, catalog=catalog, rows_K=np.array(rows, np.int64), rerank=rerank)
        return Answer(
            bundle=self.bundle.name,
            spec_hash=self.bundle.manifest.spec_hash,
            items=catalog.texts(rows),
            scores=found.scores.tolist() if ruled is None else ruled.scores,
            history=catalog.texts(known.rows.tolist()) if ask.query.history else [],
            cold=known.cold,
            plan=plan,
            sequence=catalog.sequence,
            seconds=ask.watch.seconds,
            begins=ask.watch.begins,
            degraded=ask.degraded,
            rerank=rerank,
            ranked=ranked,
            ruled=ruled,
            placement="" if ask.rules is None else ask.rules.name,
            policy_version=0 if ask.rules is None else ask.rules.version,
            unknown=ask.features.unknown if ask.features is not None else (),
            features=ask.features,
        )


class _Read(NamedTuple):
    """A checked request."""

    known: KnownFeatures
    seen: npt.NDArray[np.int64]
    """Rows to leave out."""
    filter: ItemFilter
    """Of the request and its placement together."""
    order: "Rerank"
    rules: CompiledPlacement | None
    plan: SourcePlan
    wanted: int
    """Items to find: those asked for, and what rules choose from."""


def _hidden(
    ask: RankRequest, features: UserFeatures, known: KnownFeatures, catalog: CatalogSnapshot
) -> npt.NDArray[np.int64]:
    """Return the rows that are left out because the user has seen them."""
    if (seen := ask.query.seen_rules(ask.rules)) is not None:
        return features.hidden_rows(seen, known, catalog, now_us())
    return features.seen_rows(known, catalog) if ask.query.exclude_seen else NO_ROWS


def _seed(query: Query, read: _Read, catalog: CatalogSnapshot) -> bytes:
    """Return what decides a request's draws: another history, catalog or policy is another draw."""
    assert read.rules is not None
    about = (read.rules.name, read.rules.version, query.k, catalog.bundle.name, catalog.sequence)
    return blake2b(repr(about).encode() + subject_key(query.subject) + read.known.rows.tobytes()).digest()
