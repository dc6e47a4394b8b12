"""One thread that computes, for all requests of a process: what waits for it is encoded and searched together."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Condition, Thread
from time import perf_counter
from typing import Any, TypeVar

from rf_platform.errors import OverloadedError
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Answer, RankRequest
from rf_serving.stage_timer import Observe, unobserved
from rf_serving.threads import hand_over, use_one_thread

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """Limits of a micro-batch."""

    most: int = 32
    """Most requests of a batch: a larger one saves little more and takes longer."""
    collect_seconds: float = 300e-6
    """Longest wait of a request for others, while the thread is free and others are expected."""
    waiting: int = 1024
    """Most requests that wait; one more is refused."""


@dataclass(eq=False)
class Job:
    """A request, or other work, that waits to be computed."""

    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"
    since: float = field(default_factory=perf_counter)
    engine: Engine | None = None
    ask: RankRequest | None = None
    work: Callable[[], object] | None = None

    def settle(self, result: Any) -> None:
        """Set the future's result, or an exception."""
        settle(self.future, result)


Jobs = deque[Job]


class ThreadBatcher:
    """Answers requests in batches, each by one engine, in a thread of its own, which the event loop never waits for.

    A request that finds the thread idle is computed at once, alone. Those that come while it computes are its next batch, at once
    again if the oldest of them has waited :attr:`BatchLimits.collect_seconds` by then or none else is expected; so batches
    grow with the load, and the wait is bounded. Cancelled requests are dropped before
    they are encoded.
    """

    def __init__(self, observe: Observe = unobserved, limits: BatchLimits | None = None) -> None:
        """Start the thread.

        Args:
            observe: is told how long a request waited for the thread, as the stage ``queue``.
            limits: how requests are put together.
        """
        self._observe, self._limits = observe, limits or BatchLimits()
        self._ready = Condition()
        self._jobs: Jobs = deque()
        self._coming = 0
        self._closed = self._begun = False
        self._thread = Thread(target=self._run, name="rf-compute", daemon=True)
        self._thread.start()

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Announce a request for the end of the block, such as one with a read in progress."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1

    async def rank(self, engine: Engine, ask: RankRequest) -> Answer:
        """Answer a request, together with others of the same engine.

        Raises:
            RfError: what :meth:`Engine.rank` raises.
            OverloadedError: too many requests wait already.
        """
        loop = asyncio.get_running_loop()
        answer: Answer = await self._submit(Job(loop, loop.create_future(), engine=engine, ask=ask))
        return answer

    async def call(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, called in the thread between two batches; raises as :meth:`rank` otherwise."""
        loop = asyncio.get_running_loop()
        result: T = await self._submit(Job(loop, loop.create_future(), work=work))
        return result

    def close(self) -> None:
        """Stop the thread when its batch is done; requests that wait are cancelled."""
        with self._ready:
            self._closed = True
            waiting = list(self._jobs)
            self._jobs.clear()
            self._ready.notify()
        for job in waiting:
            # The event loop may be closed already.
            with suppress(RuntimeError):
                job.loop.call_soon_threadsafe(job.future.cancel)

    def _submit(self, job: Job) -> "asyncio.Future[Any]":
        with self._ready:
            if len(self._jobs) >= self._limits.waiting:
                raise OverloadedError(f"{len(self._jobs)} requests wait to be computed already; try again later")
            if self._closed:
                job.future.cancel()
            else:
                self._jobs.append(job)
                self._ready.notify()
        return job.future

    def _run(self) -> None:
        use_one_thread()
        while jobs := self._next():
            begin = perf_counter()
            for job in jobs:
                self._observe("queue", begin - job.since)
            hand_over(jobs, results_of(jobs))

    def _next(self) -> list[Job]:
        """Wait for requests and return those of the next batch; none when the thread is to end."""
        with self._ready:
            while True:
                busy = self._begun and bool(self._jobs)
                while not self._jobs and not self._closed:
                    self._ready.wait()
                if busy:
                    self._collect()
                if self._closed:
                    return []
                if taken := take(self._jobs, self._limits.most):
                    self._begun = True
                    return taken

    def _collect(self) -> None:
        until = self._jobs[0].since + self._limits.collect_seconds
        while 0 < len(self._jobs) < self._limits.most and self._coming and (left := until - perf_counter()) > 0:
            self._ready.wait(left)


def settle(future: "asyncio.Future[Any]", result: Any) -> None:
    """Set a future's result, or the exception that took its place, unless it is done, such as a cancelled one."""
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    elif isinstance(result, asyncio.CancelledError):
        future.cancel()
    else:
        future.set_result(result)


def take(waiting: Jobs, most: int) -> list[Job]:
    """Remove and return the oldest requests that can be computed together, at most ``most``."""
    taken: list[Job] = []
    left: list[Job] = []
    while waiting and len(taken) < most:
        job = waiting.popleft()
        if job.future.done():
            # The caller has gone.
            continue
        together = not taken or (job.engine is taken[0].engine and job.engine is not None)
        (taken if together else left).append(job)
    waiting.extendleft(reversed(left))
    return taken


def results_of(jobs: list[Job]) -> list[Any]:
    """Return the results of jobs, an exception in place of one that failed."""
    first = jobs[0]
    try:
        if first.work is not None:
            return [first.work()]
        assert first.engine is not None
        return list(first.engine.rank_many([job.ask for job in jobs if job.ask is not None]))
    except Exception as error:
        # A bug, for one, or memory ran out; found alone, the others are answered.
        return [error] if len(jobs) == 1 else [result for job in jobs for result in results_of([job])]
