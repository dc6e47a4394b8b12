"""Quick requests, computed in the event loop itself, in batches."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

from rf_platform.errors import OverloadedError
from rf_protos.v1.retrieval_pb2 import Session
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Query
from rf_serving.retrieval.quick_ranker import QuickAnswer
from rf_serving.retrieval.thread_batcher import BatchLimits, settle
from rf_serving.stage_timer import Observe, unobserved
from rf_serving.threads import busy_seconds, use_one_thread
from rf_serving.user_features.features import UserFeatures
from rf_serving.user_features.fetcher import FeatureFetcher
from rf_serving.user_features.online_reader import FETCH_SECONDS, OnlineReader

_MOST_SHARE_SECONDS, _GAP_SECONDS = 0.01, 0.25e-3
_SHARE = 0.3
"""Share of a batch's time that a busy loop then accepts calls for."""
_LONG_GAP_SECONDS, _LARGE_BATCH = 1e-3, 8
_BUSY_LOAD = 0.8
"""Share of the time that the loop works from which on it is busy."""
_LOAD_SECONDS = 0.02
_SLOW_SECONDS, _PAUSE_SECONDS = 0.3, 1.0


@dataclass(eq=False, slots=True)
class QuickJob:
    """A quick request, from its arrival to its answer."""

    engine: Engine
    query: Query
    settle: Callable[["QuickAnswer | BaseException"], None]
    """Receives the answer, or why there is none: an error of the request, or that it was cancelled."""
    gone: Callable[[], bool]
    """Whether nobody waits for the answer any more."""
    fetcher: FeatureFetcher | None = None
    """Reads the features of the user; None: they are there, or come with a session."""
    fetch_seconds: float = FETCH_SECONDS
    """Time limit of the store."""
    features: UserFeatures | None = None
    fetched: tuple[float, float] = (0.0, 0.0)
    """Start and seconds of the read."""
    since: float = field(default_factory=perf_counter)

    @property
    def user(self) -> int | str:
        """The user that is asked for."""
        assert not isinstance(self.query.subject, Session)
        return self.query.subject


class InlineBatcher:
    """Micro-batching in the event loop, for requests that take a millisecond.

    A thread would be slower: a batch releases the interpreter lock at every operation, and beside a busy event loop it gets it
    back milliseconds later, so it takes several times as long.

    A batch waits for requests with reads in progress, at most :attr:`BatchLimits.collect_seconds`. After a batch the loop first
    accepts the calls that arrived meanwhile, one a turn. An idle loop ends that after a quarter of a millisecond without a call,
    or a whole one after a large batch; a busy loop after a third of the time that the last batch took, or with a full batch. So
    batches grow with the load, and there is time for load shedding. Later calls are computed at once.
    """

    def __init__(
        self,
        reads: OnlineReader,
        observe: Observe = unobserved,
        limits: BatchLimits | None = None,
    ) -> None:
        """Begin without requests.

        Args:
            reads: reads the features of users.
            observe: is told about stages, and how long a request waited for its batch, as the stage ``queue``.
            limits: how requests are put together.
        """
        self._observe, self._limits, self._reads = observe, limits or BatchLimits(), reads
        self._jobs: deque[QuickJob] = deque()
        self._coming = 0
        self._planned = self._closed = False
        self._share_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._slow_until = 0.0
        self._latest, self._load = 0, 0.0
        self._load_since: tuple[float, float] | None = None

    @property
    def slow(self) -> bool:
        """Whether a batch has just blocked the loop for 0.3 s, so that requests should use the thread for a while.

        Pages of an index that are not in memory do that, and deletions that make an index search again.
        """
        return perf_counter() < self._slow_until

    async def rank(self, engine: Engine, query: Query) -> QuickAnswer:
        """Answer a session's query, together with others of the same engine; to be called in one event loop only.

        Raises:
            RfError: what :meth:`Engine.rank` raises.
            OverloadedError: too many requests wait already.
        """
        future: asyncio.Future[QuickAnswer] = asyncio.get_running_loop().create_future()
        self.submit(QuickJob(engine, query, partial(settle, future), future.done))
        return await future

    def submit(self, job: QuickJob) -> None:
        """Have a request answered: its ``settle`` gets the answer, or why there is none.

        Raises:
            OverloadedError: too many requests wait already.
        """
        if len(self._jobs) >= self._limits.waiting:
            raise OverloadedError(f"{len(self._jobs)} requests wait to be computed already; try again later")
        if self._closed:
            asyncio.get_running_loop().call_soon(job.settle, asyncio.CancelledError())
        elif job.fetcher is None or self._reads.is_local(job.fetcher):
            self._add(job)
        else:
            self._read_elsewhere(job)

    def close(self) -> None:
        """Refuse further requests, and cancel those that wait."""
        self._closed = True
        while self._jobs:
            self._jobs.popleft().settle(asyncio.CancelledError())

    def _add(self, job: QuickJob) -> None:
        if self._closed:
            job.settle(asyncio.CancelledError())
            return
        self._jobs.append(job)
        self._plan(asyncio.get_running_loop())

    def _read_elsewhere(self, job: QuickJob) -> None:
        """Have the features of a user read by the reading thread; what waits meanwhile waits for them."""
        assert job.fetcher is not None
        self._coming += 1
        job.fetched = perf_counter(), 0.0
        settled = partial(self._read, job)
        self._reads.ask(
            job.fetcher, job.user, settled, job.fetch_seconds, seen=job.query.exclude_seen, timed=job.query.logged
        )

    def _read(self, job: QuickJob, read: UserFeatures | Exception) -> None:
        self._coming -= 1
        begin = job.fetched[0]
        job.fetched = begin, perf_counter() - begin
        self._observe("fetch", job.fetched[1])
        if isinstance(read, Exception):
            job.settle(read)
        else:
            job.features, job.fetcher, job.since = read, None, perf_counter()
            self._add(job)
        if self._jobs and not self._coming:
            self._plan(asyncio.get_running_loop())

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        """Check in the loop's next turn whether a batch is due."""
        if not self._planned:
            self._planned = True
            loop.call_soon(self._go_on, loop)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Compute a batch if its time has come."""
        self._planned = False
        if not self._jobs:
            return
        now, full = perf_counter(), len(self._jobs) >= self._limits.most
        until = self._jobs[0].since + self._limits.collect_seconds if self._coming else 0.0
        if self._load > _BUSY_LOAD:
            until = max(until, self._share_until)
        elif self._latest >= _LARGE_BATCH:
            until = max(until, min(self._share_until, self._jobs[-1].since + _LONG_GAP_SECONDS))
        elif not full and now < min(self._share_until, self._jobs[-1].since + _GAP_SECONDS):
            # A timer would be a millisecond late.
            self._plan(loop)
            return
        if not full and now < until:
            # The next call or the timer checks again.
            if self._timer is None:
                self._timer = loop.call_later(until - now, self._due, loop)
            return
        try:
            self._compute(self._take())
        finally:
            if self._jobs:
                self._plan(loop)

    def _take(self) -> list[QuickJob]:
        """Remove and return the oldest requests that can be computed together."""
        taken: list[QuickJob] = []
        left: list[QuickJob] = []
        while self._jobs and len(taken) < self._limits.most:
            job = self._jobs.popleft()
            if job.gone():
                job.settle(asyncio.CancelledError())
            else:
                (taken if not taken or job.engine is taken[0].engine else left).append(job)
        self._jobs.extendleft(reversed(left))
        return taken

    def _due(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._plan(loop)

    def _compute(self, jobs: list[QuickJob]) -> None:
        if not jobs:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        begin = perf_counter()
        self._observe_waiting(begin, jobs)
        use_one_thread()
        if jobs := self._read_here(jobs):
            for job, result in zip(jobs, self._rank(jobs), strict=True):
                job.settle(result)
        end = perf_counter()
        self._latest = len(jobs)
        self._measure_load(end)
        self._share_until = end + min(_SHARE * (end - begin), _MOST_SHARE_SECONDS)
        if end - begin >= _SLOW_SECONDS:
            self._slow_until = end + _PAUSE_SECONDS

    def _observe_waiting(self, now: float, jobs: list[QuickJob]) -> None:
        for job in jobs:
            self._observe("queue", now - job.since)

    def _rank(self, jobs: list[QuickJob]) -> list[QuickAnswer | Exception]:
        """Return the answers, an exception in place of one that failed."""
        reads = [job.fetched for job in jobs if job.features is not None]
        fetched = max(reads, key=lambda read: read[1]) if reads else None
        try:
            found = jobs[0].engine.rank_quick([(job.query, job.features) for job in jobs], fetched)
        except Exception as error:
            # A bug, for one, or memory ran out; found alone, the others are answered.
            return [error] if len(jobs) == 1 else [result for job in jobs for result in self._rank([job])]
        first = next((each for each in found if isinstance(each, QuickAnswer)), None)
        for stage, seconds in {} if first is None else first.seconds.items():
            if stage != "fetch" or fetched is None:
                self._observe(stage, seconds, len(jobs))
        return list(found)

    def _read_here(self, jobs: list[QuickJob]) -> list[QuickJob]:
        """Read what is to be read for a batch, all users of a bundle together, and return the requests that can be answered."""
        by_fetcher: dict[FeatureFetcher, list[QuickJob]] = {}
        for job in jobs:
            if job.fetcher is not None:
                by_fetcher.setdefault(job.fetcher, []).append(job)
        ready = [job for job in jobs if job.fetcher is None]
        for fetcher, asking in by_fetcher.items():
            begin = perf_counter()
            seen = any(job.query.exclude_seen for job in asking)
            timed = any(job.query.logged for job in asking)
            read = self._reads.read_inline(fetcher, [job.user for job in asking], seen=seen, timed=timed)
            if read is None:
                for job in asking:
                    self._read_elsewhere(job)
                continue
            fetched = begin, perf_counter() - begin
            self._observe("fetch", fetched[1], len(asking))
            for job, features in zip(asking, read, strict=True):
                if isinstance(features, UserFeatures):
                    job.features, job.fetched = features, fetched
                    ready.append(job)
                else:
                    job.settle(features)
        return ready

    def _measure_load(self, now: float) -> None:
        """Measure the share of the time that the loop worked, or would have."""
        if self._load_since is None or now - self._load_since[0] >= _LOAD_SECONDS:
            working = busy_seconds()
            if self._load_since is not None:
                self._load = (working - self._load_since[1]) / (now - self._load_since[0])
            self._load_since = now, working
