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

_QUIET_SECONDS = 100e-6
"""Nobody came for so long: nobody waits at the door."""
_MOST_SHARE_SECONDS = 0.01


class LoopBatcher:
    """Answers requests that take a millisecond where they arrive: in the event loop.

    A thread of its own would not be faster. Under Python's lock either thread waits for the other, and computing gives the lock
    back at every operation: beside a busy event loop it gets it again milliseconds later, and a batch takes several times as
    long.

    Requests are put together as :class:`~rf_serving.retrieval.batcher.Batcher` does it. In addition the loop, after a batch,
    takes in those who came meanwhile before it computes again, for at most as long as the batch took: so that there is always
    time to refuse what is too much, and batches are large when they have to be.
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
        self._came = self._share_until = 0.0

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Say that a request will come when the block ends, such as one whose features are being read."""
        self._coming += 1
        self._came = perf_counter()
        try:
            yield
        finally:
            self._coming -= 1

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
            self._came = job.since
            self._jobs.append(job)
            if not self._planned:
                self._planned = True
                loop.call_soon(self._go_on, loop)
        answer: Answer = await job.future
        return answer

    def close(self) -> None:
        """Take no more requests; those that wait are cancelled."""
        self._closed = True
        while self._jobs:
            self._jobs.popleft().future.cancel()

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Compute a batch if its time has come, and come back as long as requests wait: the loop's timers are too coarse."""
        try:
            if self._jobs and not self._waits() and (jobs := take(self._jobs, self._limits.most)):
                self._compute(jobs)
        finally:
            self._planned = bool(self._jobs)
            if self._planned:
                loop.call_soon(self._go_on, loop)

    def _waits(self) -> bool:
        """Whether a batch of those who are here would be too early."""
        now, oldest = perf_counter(), self._jobs[0].since
        if len(self._jobs) >= self._limits.most:
            return False
        if self._coming and now < oldest + self._limits.collect_seconds:
            return True
        return now < self._share_until and now < self._came + _QUIET_SECONDS

    def _compute(self, jobs: list[Job]) -> None:
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
