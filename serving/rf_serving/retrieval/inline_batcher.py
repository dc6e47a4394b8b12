"""Quick requests, computed in the event loop itself, in batches."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, thread_time

from rf_platform.errors import OverloadedError
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Answer, RankRequest
from rf_serving.retrieval.thread_batcher import BatchLimits, Job, Jobs, results_of, take
from rf_serving.stage_timer import Observe
from rf_serving.threads import use_one_thread
from rf_serving.user_features.features import UserFeatures
from rf_serving.user_features.fetcher import FeatureFetcher
from rf_serving.user_features.online_reader import OnlineReader

_MOST_SHARE_SECONDS, _GAP_SECONDS = 0.01, 0.25e-3
_LONG_GAP_SECONDS, _LARGE_BATCH = 1e-3, 8
_BUSY_LOAD = 0.8
"""Share of the time that the loop works from which on it is busy."""
_LOAD_SECONDS = 0.02
_SLOW_SECONDS, _PAUSE_SECONDS = 0.3, 1.0


class InlineBatcher:
    """Micro-batching in the event loop, for requests that take a millisecond.

    A thread would be slower: a batch releases the interpreter lock at every operation, and beside a busy event loop it gets it
    back milliseconds later, so it takes several times as long.

    A batch waits for requests with reads in progress, at most :attr:`BatchLimits.collect_seconds`. After a batch the loop first
    accepts the calls that arrived meanwhile, one a turn. An idle loop ends that after a quarter of a millisecond without a call,
    or a whole one after a large batch; a busy loop after as long as the last batch took, or with a full batch. So batches
    grow with the load, and there is time for load shedding. Later calls are computed at once.
    """

    def __init__(
        self,
        observe: Observe = lambda stage, seconds: None,
        limits: BatchLimits | None = None,
        reads: OnlineReader | None = None,
    ) -> None:
        """Begin without requests.

        Args:
            observe: is told how long a request waited for its batch, as the stage ``queue``.
            limits: how requests are put together.
            reads: reads features for :meth:`read_and_rank`.
        """
        self._observe, self._limits, self._reads = observe, limits or BatchLimits(), reads
        self._jobs: Jobs = deque()
        self._coming = 0
        self._planned = self._closed = False
        self._share_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._slow_until = 0.0
        self._latest, self._load = 0, 0.0
        self._load_since: tuple[float, float] | None = None

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Announce a request for the end of the block, such as one with a read in progress."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1
            if self._jobs and not self._coming:
                self._plan(asyncio.get_running_loop())

    @property
    def slow(self) -> bool:
        """Whether a batch has just blocked the loop for 0.3 s, so that requests should use the thread for a while.

        Pages of an index that are not in memory do that, and deletions that make an index search again.
        """
        return perf_counter() < self._slow_until

    async def rank(self, engine: Engine, ask: RankRequest) -> Answer:
        """Answer a request, together with others of the same engine; to be called in one event loop only.

        Raises:
            RfError: what :meth:`Engine.rank` raises.
            OverloadedError: too many requests wait already.
        """
        answer = await self._submit(engine, ask, None)
        assert answer is not None
        return answer

    async def read_and_rank(
        self, engine: Engine, ask: RankRequest, fetcher: FeatureFetcher, user_id: int | str
    ) -> Answer | None:
        """Answer a request with features that are :meth:`OnlineReader.is_local`: those of a batch are read together.

        None: they could not be read at once. Raises as :meth:`rank`, and what :meth:`FeatureFetcher.decode` raises.
        """
        return await self._submit(engine, ask, (fetcher, user_id))

    async def _submit(
        self, engine: Engine, ask: RankRequest, read: tuple[FeatureFetcher, int | str] | None
    ) -> Answer | None:
        if len(self._jobs) >= self._limits.waiting:
            raise OverloadedError(f"{len(self._jobs)} requests wait to be computed already; try again later")
        loop = asyncio.get_running_loop()
        job = Job(loop, loop.create_future(), engine=engine, ask=ask, read=read)
        if self._closed:
            job.future.cancel()
        else:
            self._jobs.append(job)
            self._plan(loop)
        answer: Answer | None = await job.future
        return answer

    def close(self) -> None:
        """Refuse further requests, and cancel those that wait."""
        self._closed = True
        while self._jobs:
            self._jobs.popleft().future.cancel()

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
            self._compute(take(self._jobs, self._limits.most))
        finally:
            if self._jobs:
                self._plan(loop)

    def _due(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._plan(loop)

    def _compute(self, jobs: list[Job]) -> None:
        if not jobs:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        begin = perf_counter()
        for job in jobs:
            self._observe("queue", begin - job.since)
        use_one_thread()
        if jobs := self._read(jobs):
            for job, result in zip(jobs, results_of(jobs), strict=True):
                _settle(job, result)
        end = perf_counter()
        self._latest = len(jobs)
        self._measure_load(end)
        self._share_until = end + min(end - begin, _MOST_SHARE_SECONDS)
        if end - begin >= _SLOW_SECONDS:
            self._slow_until = end + _PAUSE_SECONDS

    def _measure_load(self, now: float) -> None:
        """Measure the share of the time that the loop worked, or would have."""
        if self._load_since is None or now - self._load_since[0] >= _LOAD_SECONDS:
            working = _busy_seconds()
            if self._load_since is not None:
                self._load = (working - self._load_since[1]) / (now - self._load_since[0])
            self._load_since = now, working

    def _read(self, jobs: list[Job]) -> list[Job]:
        """Read what is to be read for a batch, all users of a bundle together, and return the requests that can be answered."""
        by_fetcher: dict[FeatureFetcher, list[tuple[Job, RankRequest, int | str]]] = {}
        for job in jobs:
            if job.read is not None and job.ask is not None:
                fetcher, user = job.read
                by_fetcher.setdefault(fetcher, []).append((job, job.ask, user))
        for fetcher, asking in by_fetcher.items():
            assert self._reads is not None
            begin = perf_counter()
            seen = any(ask.query.exclude_seen for _, ask, _ in asking)
            read = self._reads.read_inline(fetcher, [user for _, _, user in asking], seen=seen)
            seconds = perf_counter() - begin
            for place, (job, ask, _) in enumerate(asking):
                features = None if read is None else read[place]
                if isinstance(features, UserFeatures):
                    ask.features = features
                    ask.watch.record("fetch", begin, seconds)
                else:
                    _settle(job, features)
        return [job for job in jobs if not job.future.done()]


def _busy_seconds() -> float:
    """Return how long this thread has worked or waited for a core so far; without the waiting where the system does not tell."""
    try:
        with open("/proc/thread-self/schedstat", "rb") as told:
            worked, waited, _ = told.read().split()
        return (int(worked) + int(waited)) / 1e9
    except (OSError, ValueError):
        return thread_time()


def _settle(job: Job, result: Answer | Exception | None) -> None:
    if isinstance(result, Exception):
        job.future.set_exception(result)
    else:
        job.future.set_result(result)
