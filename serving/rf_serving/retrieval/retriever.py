"""The stages put together: fetch features, then let the engine encode, search, filter and re-rank; and explain.

Where the features cannot be read, or the engine that holds the index is away, the answer is degraded. Explanations are made
within a budget, beside the answers of others.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Lock
from time import perf_counter

from rf_platform.errors import CorruptError, DataError, IndexAwayError, UnavailableError
from rf_protos.v1.retrieval_pb2 import DEGRADED_REASON_UNSPECIFIED, DEGRADED_STORE_SILENT, DegradedReason, Session
from rf_serving.bundle.served import ServedBundle
from rf_serving.retrieval.degraded import degraded_answer, indexless_answer
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.explaining import Explaining
from rf_serving.retrieval.inline_batcher import InlineBatcher, QuickJob
from rf_serving.retrieval.interleaving import interleaved, may_interleave
from rf_serving.retrieval.query import Answer, Query, RankRequest
from rf_serving.retrieval.quick_ranker import QuickAnswer
from rf_serving.retrieval.routing import Route, Routing
from rf_serving.retrieval.similar_ranker import SimilarAnswer, SimilarQuery
from rf_serving.retrieval.thread_batcher import BatchLimits, ThreadBatcher, settle
from rf_serving.stage_timer import Observe, StageTimer, unobserved
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
        observe: Observe = unobserved,
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
            InlineBatcher(self._reads, observe, batches),
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
            UnavailableError: the online store cannot be read in time, or the engine with the index does not answer, and the
                answer is not to be degraded.
            CorruptError: a user's stored features cannot be used.
        """
        routing = self.routing
        if query.interleave and routing.challenger is not None:
            answer = await self._interleaved(routing, routing.challenger, query, fetch_seconds, degrade=degrade)
            if answer is not None:
                return answer
        return await self.retrieve_by(routing.route_of(query), query, fetch_seconds, routing.answered, degrade=degrade)

    async def _interleaved(
        self, routing: Routing, challenger: Route, query: Query, fetch_seconds: float | None, *, degrade: bool
    ) -> Answer | None:
        """Answer a query by both bundles; None where that is not possible, and the user's own bundle answers."""
        if query.explain or not (
            may_interleave(routing.active.rules_of(query)) and may_interleave(challenger.rules_of(query))
        ):
            return None
        both = [
            self.retrieve_by(route, query, fetch_seconds, answered, degrade=degrade)
            for route, answered in ((routing.active, routing.answered), (challenger, None))
        ]
        first, second = await asyncio.gather(*both)
        if first.degraded or second.degraded:
            return first if routing.route_of(query) is routing.active else second
        return interleaved(query, first, second, routing.salt)

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
        engine, order, rules = route.engine, route.engine.order_of(query), route.rules_of(query)
        seconds = self._fetch_seconds if fetch_seconds is None else fetch_seconds
        watch = StageTimer(self._observe)
        try:
            if engine.quick(query, order, rules) and not self._quick.slow:
                loop = asyncio.get_running_loop()
                future: asyncio.Future[QuickAnswer] = loop.create_future()
                self._quick.submit(self._job(route, query, seconds, partial(settle, future), future.done))
                found = await future
                features, answer = found.features, found.answer()
            else:
                ask = RankRequest(features=None, query=query, watch=watch, order=order, rules=rules)
                await self._fetch(route.fetcher, ask, seconds)
                answer = await self._batcher.rank(engine, ask)
                assert ask.features is not None
                features = ask.features
        except IndexAwayError as error:
            if not degrade:
                raise
            without = partial(indexless_answer, engine, query, watch, rules, error)
            return await self._explained(engine, query, await self._batcher.call(without), watch)
        except UnavailableError:
            if not degrade:
                raise
            return await self.degraded(route, query, watch)
        except DataError as error:
            raise _of_store(query, error) from error
        if fault := self._fault(query):
            answer = replace(answer, degraded=fault)
        if answered is not None:
            answered(route, query, features, answer)
        return await self._explained(engine, query, answer, watch)

    def take(
        self, query: Query, settle: Callable[[QuickAnswer | BaseException], None], gone: Callable[[], bool]
    ) -> Route | None:
        """Have a query answered without a coroutine, if it is quick; None: ask :meth:`retrieve`.

        Args:
            query: what is asked.
            settle: gets the answer, or why there is none: an error, as of :meth:`retrieve` with ``degrade=False``, or that
                the query was cancelled.
            gone: whether nobody waits for the answer any more.

        Returns:
            The route that answers.

        Raises:
            RfError: the query cannot be answered, or not now.
        """
        routing = self.routing
        route = routing.route_of(query)
        if query.interleave and routing.challenger is not None:
            return None
        if self._quick.slow or not route.engine.quick(query, route.engine.order_of(query), route.rules_of(query)):
            return None

        def settled(result: QuickAnswer | BaseException) -> None:
            if isinstance(result, QuickAnswer):
                result.degraded = self._fault(query)
                if routing.shadow is not None:
                    routing.answered(route, query, result.features, result.answer())
            elif isinstance(result, DataError):
                result = _of_store(query, result)
            settle(result)

        self._quick.submit(self._job(route, query, self._fetch_seconds, settled, gone))
        return route

    async def similar(self, query: SimilarQuery) -> SimilarAnswer:
        """Answer a query for similar items by the active bundle: there is no user that a split could go by.

        Raises:
            UsageError: the catalog has none of the items, there is no such placement, or a field is wrong.
            OverloadedError: too many requests wait already.
        """
        route, watch = self.routing.active, StageTimer(self._observe)
        engine, rules = route.engine, route.rules_named(query.placement)
        if engine.quickly_similar(query) and not self._quick.slow:
            return engine.similar(query, watch)
        return await self._batcher.call(lambda: engine.similar(query, watch, rules))

    async def degraded(self, route: Route, query: Query, watch: StageTimer | None = None) -> Answer:
        """Answer a query without its features, which cannot be read; see :func:`degraded_answer`.

        Many fail together, so that those which are quick are computed together with all other quick ones.
        """
        timer, rules, engine = watch or StageTimer(self._observe), route.rules_of(query), route.engine
        if (
            engine.bundle.spec.inputs("user")
            and engine.quick(query, engine.order_of(query), rules)
            and not self._quick.slow
        ):
            with suppress(DataError):  # no query vector comes of an empty profile
                future: asyncio.Future[QuickAnswer] = asyncio.get_running_loop().create_future()
                job = QuickJob(engine, query, partial(settle, future), future.done)
                job.features, job.fetched = UserFeatures(), (perf_counter(), 0.0)
                self._quick.submit(job)
                return replace((await future).answer(), degraded=DEGRADED_STORE_SILENT)
        answer = await self._batcher.call(lambda: degraded_answer(route.engine, query, timer, rules))
        return await self._explained(route.engine, query, answer, timer)

    def _job(
        self,
        route: Route,
        query: Query,
        seconds: float,
        settle: Callable[[QuickAnswer | BaseException], None],
        gone: Callable[[], bool],
    ) -> QuickJob:
        fetcher = None if isinstance(query.subject, Session) else route.fetcher
        return QuickJob(route.engine, query, settle, gone, fetcher, seconds)

    def _fault(self, query: Query) -> "DegradedReason":
        """Return the fault of the store that a query's features were read from."""
        return DEGRADED_REASON_UNSPECIFIED if isinstance(query.subject, Session) else self._reads.fault

    async def _fetch(self, fetcher: FeatureFetcher, ask: RankRequest, seconds: float) -> None:
        """Read a user's features in time; a session brings its own."""
        if not isinstance(ask.query.subject, Session):
            with self._batcher.expecting(), ask.watch.stage("fetch"):
                ask.features = await self._reads.fetch(
                    fetcher,
                    ask.query.subject,
                    seconds,
                    seen=ask.query.seen_read(ask.rules),
                    timed=ask.query.logged,
                )

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


def _of_store(query: Query, error: DataError) -> DataError | CorruptError:
    """Return the error of features that cannot be used: of a user's, the store is to blame."""
    if isinstance(query.subject, Session):
        return error
    return CorruptError(f"the stored features of user_id {query.subject!r} cannot be used: {error}")
