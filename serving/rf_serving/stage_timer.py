"""Timings of the stages of a request."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Protocol


class Observe(Protocol):
    """Receives the times of stages."""

    def __call__(self, stage: str, seconds: float, requests: int = 1, /) -> None:
        """Receive a stage's name, and its seconds for so many requests."""


def unobserved(stage: str, seconds: float, requests: int = 1) -> None:
    """Do nothing."""


class StageTimer:
    """Times the stages of one request and tells ``observe``, also of a stage that fails."""

    def __init__(self, observe: Callable[[str, float], None]) -> None:
        self._observe = observe
        self.seconds: dict[str, float] = {}
        self.begins: dict[str, float] = {}
        """Start of each stage, by :func:`time.perf_counter`."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block."""
        start = perf_counter()
        try:
            yield
        finally:
            self.record(name, start, perf_counter() - start)

    def record(self, name: str, begin: float, seconds: float) -> None:
        """Record a stage that was timed elsewhere, such as that of a batch."""
        self.begins[name], self.seconds[name] = begin, seconds
        self._observe(name, seconds)
