"""Where the time of a request goes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

Observe = Callable[[str, float], None]
"""Receives a stage's name and its seconds."""


class Stopwatch:
    """Times the stages of one request and tells ``observe``, also of a stage that fails."""

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = perf_counter() - start
            self._observe(name, self.seconds[name])
