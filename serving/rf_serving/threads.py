"""Threads of a server: how many cores they use, how urgent they are, and how results reach the event loop."""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import thread_time
from typing import Any, Protocol

import faiss
import torch

NICE = 10
"""Niceness of background threads: with a swap a second, p99 was a third of that without it."""
_LEAST_URGENT = 19
_own = threading.local()


class Awaited(Protocol):
    """A piece of work with a result that an event loop waits for."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""

    def settle(self, result: Any) -> None:
        """Receive the result, or the exception that took its place; nothing happens if nobody waits any more."""


class _Told:
    """File of a thread's times, kept open as long as it lives: opening takes ten times as long, and a batch reads it twice."""

    def __init__(self) -> None:
        self._fd = os.open("/proc/thread-self/schedstat", os.O_RDONLY)

    def read(self) -> bytes:
        return os.pread(self._fd, 64, 0)

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)


def use_one_thread() -> None:
    """Restrict the calling thread's computation to one thread: concurrent requests share the cores."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)


def busy_seconds() -> float:
    """Return how long this thread has worked or waited for a core so far; without the waiting where the system does not tell."""
    try:
        if (told := getattr(_own, "told", None)) is None:
            told = _own.told = _Told()
        worked, waited, _ = told.read().split()
        return (int(worked) + int(waited)) / 1e9
    except (OSError, ValueError):
        return thread_time()


def start_background(name: str, work: Callable[[], None]) -> threading.Thread:
    """Run ``work`` in a thread of lower priority, with one thread each for tensors and searches."""

    def run() -> None:
        step_back()
        use_one_thread()
        work()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def step_back() -> None:
    """Lower the priority of this thread alone; where threads have none of their own (not on Linux), leave it."""
    if hasattr(os, "setpriority") and os.uname().sysname == "Linux":
        now = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(now + NICE, _LEAST_URGENT))


def hand_over(awaited: Sequence[Awaited], results: Sequence[Any]) -> None:
    """Hand results over to the event loops that wait for them, all at once: waking a loop up costs more than a result.

    Args:
        awaited: the work.
        results: the result of each, or an exception.
    """

    def tell(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        def now() -> None:
            for each, result in zip(awaited, results, strict=True):
                if each.loop is loop:
                    each.settle(result)

        return now

    for loop in {each.loop for each in awaited}:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(tell(loop))
