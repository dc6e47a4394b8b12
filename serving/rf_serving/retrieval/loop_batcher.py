"""Quick requests, computed in the event loop itself, in batches."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from rf_platform.errors import OverloadedError
from rf_serving.one_thread import use_one_thread
from rf_serving.retrieval.batcher import BatchLimits, Job, Jobs, results_of, take
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Answer, Ask
from rf_serving.retrieval.stopwatch import Observe

_MOST_SHARE_SECONDS = 0.01
_SLOW_SECONDS, _PAUSE_SECONDS = 0.3, 1.0


class LoopBatcher:
    """Answers requests that take a millisecond where they arrive: in the event loop.

    A thread of its own would not be faster. Under Python's lock either thread waits for the other, and computing gives the lock
    back at every operation: beside a busy event loop it gets it again milliseconds later, and a batch takes several times as
    long.

    A request waits for those whose features are being read, at most :attr:`BatchLimits.collect_seconds`. After a batch the loop
    takes in who came meanwhile for as long as the batch took, before it computes again unless a batch is full: so batches are
    as large as they have to be, and there is time to refuse what is too much. Who comes later than that is computed at once.
    """

    def __init__(self, observe: Observe = lambda stage, seconds: None, limits: BatchLimits | None = None) -> None:
        """Begin without requests.

        Args:
            observe: is told how long a request waited for its batch, as the stage ``queue``.
            limits: how requests are put together.
        """
        self._observe, self._limits = observe, limits or BatchLimits()
        self._jobs: Jobs = deque()
        self._coming = 0
        self._planned = self._closed = False
        self._share_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._slow_until = 0.0

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Say that a request will come when the block ends, such as one whose features are being read."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1
            if self._jobs and not self._coming:
                self._plan(asyncio.get_running_loop())

    @property
    def slow(self) -> bool:
        """Whether a batch has just kept the loop for 0.3 s, so that requests had better go elsewhere for a while.

        Pages of an index that are not in memory do that, and deletions that make an index search again.
        """
        return perf_counter() < self._slow_until

    async def rank(self, engine: Engine, ask: Ask) -> Answer:
        """Answer a request, together with others of the same engine; to be called in one event loop only.

        Raises:
            RfError: what :meth:`Engine.rank` raises.
            OverloadedError: too many requests wait already.
        """
        if len(self._jobs) >= self._limits.waiting:
            raise OverloadedError(f"{len(self._jobs)} requests wait to be computed already; try again later")
        loop = asyncio.get_running_loop()
        job = Job(loop, loop.create_future(), engine=engine, ask=ask)
        if self._closed:
            job.future.cancel()
        else:
            self._jobs.append(job)
            self._plan(loop)
        answer: Answer = await job.future
        return answer

    def close(self) -> None:
        """Take no more requests; those that wait are cancelled."""
        self._closed = True
        while self._jobs:
            self._jobs.popleft().future.cancel()

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look in the loop's next turn whether it is time for a batch."""
        if not self._planned:
            self._planned = True
            loop.call_soon(self._go_on, loop)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Compute a batch if its time has come."""
        self._planned = False
        if not self._jobs:
            return
        now, oldest, full = perf_counter(), self._jobs[0].since, len(self._jobs) >= self._limits.most
        until = max(oldest + self._limits.collect_seconds if self._coming else 0.0, self._share_until)
        if not full and now < until:
            # Whoever comes, or does not, looks again.
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
        begin = perf_counter()
        for job in jobs:
            self._observe("queue", begin - job.since)
        use_one_thread()
        for job, result in zip(jobs, results_of(jobs), strict=True):
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)
        end = perf_counter()
        self._share_until = end + min(end - begin, _MOST_SHARE_SECONDS)
        if end - begin >= _SLOW_SECONDS:
            self._slow_until = end + _PAUSE_SECONDS
