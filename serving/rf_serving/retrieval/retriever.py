"""The stages put together: fetch features, then let the engine encode, search, filter and re-rank; and explain.

Where the features cannot be read, the answer is degraded. Explanations are made within a budget, beside the answers of others.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from threading import Lock
from time import perf_counter

import numpy as np

from rf_platform.errors import CorruptError, DataError, UnavailableError
from rf_protos.v1.explanation_pb2 import Explanation
from rf_protos.v1.retrieval_pb2 import DEGRADED_STORE_SILENT, RERANK_LIME, SearchPlan, Session
from rf_serving.bundle.served import ServedBundle
from rf_serving.explain import explain_popular
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.inline_batcher import InlineBatcher
from rf_serving.retrieval.query import Answer, Query, Ranked, RankRequest
from rf_serving.retrieval.routing import Route, Routing
from rf_serving.retrieval.thread_batcher import BatchLimits, ThreadBatcher
from rf_serving.stage_timer import Observe, StageTimer
from rf_serving.threads import step_back, use_one_thread
from rf_serving.user_features.features import UserFeatures
from rf_serving.user_features.fetcher import FeatureFetcher
from rf_serving.user_features.online_reader import OnlineReader

FETCH_SECONDS = 2.0
Answered = Callable[[Route, Query, UserFeatures, Answer], None]
"""Receives each answer with its route and query."""


class Retriever:
    """Answers queries by its :attr:`routing`.

    Reads of a store over the network have a thread of their own, and so has tensor work that takes long; what takes a millisecond
    is done in the event loop. More threads give nothing under Python's lock: scale by processes.
    """

    def __init__(
        self,
        route: Route,
        observe: Observe = lambda stage, seconds: None,
        reads: OnlineReader | None = None,
        fetch_seconds: float = FETCH_SECONDS,
        batches: BatchLimits | None = None,
    ) -> None:
        """Put the stages together.

        Args:
            route: what answers first.
            observe: is told about stages.
            reads: reads from the store.
            fetch_seconds: how long the online store may take for a request; then the answer is made without it.
            batches: how requests are put together for the encoder and the index.
        """
        self._observe = observe
        self._reads, self._fetch_seconds = reads or OnlineReader(), fetch_seconds
        self._quick, self._batcher, self._explaining = (
            InlineBatcher(observe, batches, self._reads),
            ThreadBatcher(observe, batches),
            Explaining(),
        )
        self.routing = Routing(active=route)
        """Assignment of requests to bundles; replaced as a whole at a swap."""
        self.switching = Lock()
        """Held by a thread that makes the bundles of another routing ready and assigns it."""

    def settled(self) -> Routing:
        """Return the routing, the new one if it is just being replaced; blocks until it is."""
        with self.switching:
            return self.routing

    @property
    def engine(self) -> Engine:
        """The engine of the active bundle."""
        return self.routing.active.engine

    @property
    def bundle(self) -> ServedBundle:
        """The active bundle."""
        return self.engine.bundle

    async def retrieve(self, query: Query, fetch_seconds: float | None = None, *, degrade: bool = True) -> Answer:
        """Answer a query.

        Args:
            query: what is asked.
            fetch_seconds: how long the online store may take; default: as configured.
            degrade: answer without a user's features if they cannot be read in time.

        Raises:
            UsageError, DataError: a session's field is wrong.
            ConfigError: the query asks for a re-ranker, and the bundle has none.
            UnavailableError: the online store cannot be read in time, and the answer is not to be degraded.
            CorruptError: a user's stored features cannot be used.
        """
        routing = self.routing
        return await self.retrieve_by(routing.route_of(query), query, fetch_seconds, routing.answered, degrade=degrade)

    async def retrieve_by(
        self,
        route: Route,
        query: Query,
        fetch_seconds: float | None = None,
        answered: Answered | None = None,
        *,
        degrade: bool = True,
    ) -> Answer:
        """Answer a query by a given bundle, and tell ``answered`` about it; see :meth:`retrieve`."""
        engine = route.engine
        ask = RankRequest(features=None, query=query, watch=StageTimer(self._observe), order=engine.order_of(query))
        quick = engine.quick(query, ask.order) and not self._quick.slow
        try:
            answer = await self._read_inline(route, ask) if quick else None
            if answer is None:
                batcher = self._quick if quick else self._batcher
                await self._fetch(
                    batcher, route.fetcher, ask, self._fetch_seconds if fetch_seconds is None else fetch_seconds
                )
                answer = await batcher.rank(engine, ask)
        except UnavailableError:
            if not degrade:
                raise
            answer = await self._batcher.call(lambda: degraded_answer(engine, query, ask.watch))
            return await self._explained(engine, query, answer, ask.watch)
        except DataError as error:
            if isinstance(query.subject, Session):
                raise
            raise CorruptError(f"the stored features of user_id {query.subject!r} cannot be used: {error}") from error
        if (fault := self._reads.fault) and not isinstance(query.subject, Session):
            answer = replace(answer, degraded=fault)
        if answered is not None:
            assert ask.features is not None
            answered(route, query, ask.features, answer)
        return await self._explained(engine, query, answer, ask.watch)

    async def _read_inline(self, route: Route, ask: RankRequest) -> Answer | None:
        """Return the answer if a user's features can be read in the event loop; None if they cannot, and for a session."""
        subject = ask.query.subject
        if isinstance(subject, Session) or not self._reads.is_local(route.fetcher):
            return None
        return await self._quick.read_and_rank(route.engine, ask, route.fetcher, subject)

    async def _fetch(
        self, batcher: ThreadBatcher | InlineBatcher, fetcher: FeatureFetcher, ask: RankRequest, seconds: float
    ) -> None:
        """Read a user's features in time; a session brings its own."""
        if not isinstance(ask.query.subject, Session):
            with batcher.expecting(), ask.watch.stage("fetch"):
                ask.features = await self._reads.fetch(fetcher, ask.query.subject, seconds, seen=ask.query.exclude_seen)

    async def _explained(self, engine: Engine, query: Query, answer: Answer, watch: StageTimer) -> Answer:
        if not query.explain:
            return answer
        with watch.stage("explain"):
            explanations = await self._explaining.explain(engine, answer)
        return replace(answer, explanations=explanations)

    def close(self) -> None:
        """Stop the threads; queries that wait are dropped."""
        self._reads.close()
        self._quick.close()
        self._batcher.close()
        self._explaining.close()


EXPLAIN_SECONDS = 0.5
_GRACE = 1.2
"""Times the budget: the explainer checks the clock between two steps only."""


class Explaining:
    """One thread of lower priority for the explanations of a process: requests that want none do not wait for those that do."""

    def __init__(self, seconds: float = EXPLAIN_SECONDS) -> None:
        """``seconds``: how long an answer may wait for its explanations; what is not done by then is left out."""
        self._seconds = seconds
        self._thread = ThreadPoolExecutor(1, "rf-explain", _begin)

    async def explain(self, engine: Engine, answer: Answer) -> Sequence[Explanation]:
        """Return the explanations of the first items, of as many as there was time for."""
        if answer.ranked is None:
            return explain_popular(answer.scores)
        until = perf_counter() + self._seconds
        work = asyncio.get_running_loop().run_in_executor(self._thread, _explain, engine, answer.ranked, until)
        try:
            return await asyncio.wait_for(work, self._seconds * _GRACE)
        except TimeoutError:
            return []

    def close(self) -> None:
        """Stop the thread; what waits is dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    step_back()
    use_one_thread()


def _explain(engine: Engine, ranked: Ranked, until: float) -> Sequence[Explanation]:
    if perf_counter() >= until:
        return []
    ranker = engine.bundle.ranker if ranked.rerank == RERANK_LIME else None
    return engine.explainer.explain(ranked.known, ranked.catalog, ranked.rows_K, ranker=ranker, until=until)


def degraded_answer(engine: Engine, query: Query, watch: StageTimer) -> Answer:
    """Answer as for a user without history and with an empty profile, or, if the model has no profile, by popularity.

    The query's filter holds; items that the user has seen are unknown and cannot be left out.
    """
    if engine.bundle.spec.inputs("user") or engine.bundle.popularity_N is None:
        try:
            return engine.rank(UserFeatures(), query, watch, degraded=DEGRADED_STORE_SILENT)
        except DataError:
            if engine.bundle.popularity_N is None:
                raise
    return popular_answer(engine, query, watch)


def popular_answer(engine: Engine, query: Query, watch: StageTimer) -> Answer:
    """Answer with the eligible items that most events of the training split have; the score is their share of these.

    Raises:
        RfError: the query asks for something that the bundle cannot do.
    """
    bundle, catalog = engine.bundle, engine.catalog.snapshot
    assert bundle.popularity_N is not None
    engine.order_of(query)
    with watch.stage("search"):
        allowed_N = engine.allowed(query, catalog)
        total = max(1, int(bundle.popularity_N.sum()))
        items: list[int] = []
        scores: list[float] = []
        order = bundle.popular_rows
        # Rows of the bundle mean nothing in a catalog that changed since.
        for start in range(0, len(order), 1000):
            of_bundle = order[start : start + 1000]
            rows = catalog.rows_of([bundle.item_ids[row] for row in of_bundle])
            kept = [
                (row, count)
                for row, count in zip(rows.tolist(), bundle.popularity_N[of_bundle].tolist(), strict=True)
                if row >= 0 and allowed_N[row]
            ]
            for row, count in islice(kept, query.k - len(items)):
                items.append(row)
                scores.append(count / total)
            if len(items) == query.k:
                break
    return Answer(
        bundle=bundle.name,
        spec_hash=bundle.manifest.spec_hash,
        items=catalog.texts(items),
        scores=scores,
        history=[],
        cold=True,
        plan=SearchPlan(strategy=SearchPlan.POPULAR, eligible=int(np.count_nonzero(allowed_N))),
        sequence=catalog.sequence,
        seconds=watch.seconds,
        begins=watch.begins,
        degraded=DEGRADED_STORE_SILENT,
    )
