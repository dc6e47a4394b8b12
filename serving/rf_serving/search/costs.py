"""Costs of the search plans on this machine with this catalog: measured when it is opened, in a few milliseconds.

A search on a CUDA device or another machine hardly takes time of the CPU: the request waits for it, and the wait is what it
costs.

Shapes: D width.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter, thread_time
from typing import Self

import faiss
import numpy as np

from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.search.scan import Best

GATHERED = 4096
SCANNED = 32_768
DEPTHS = (100, 1000)
"""Numbers of results that an approximate index is timed for: those it is tuned for."""
TAKEN = 100
"""Results that a scan is timed for."""
REPEATS = 3
"""The least of so many times counts: the others had company."""
_LEAST_SECONDS = 1e-7
"""Resolution of the clock."""


@dataclass(frozen=True, kw_only=True)
class SearchCosts:
    """Seconds of one query on one thread: of its CPU, or of waiting for a device or another machine."""

    gathered: float
    """Per row that is gathered and scored."""
    scanned: float
    """Per row of a whole scan."""
    index: tuple[tuple[int, float], ...] = ()
    """Of a search of the index: number of results and seconds, rising; empty for one that scans the vectors itself, and without
    anything to search."""
    deepest: float = math.inf
    """Most results that the index gives at this cost: a device or an engine gives no more than some, and the CPU
    scans in its place."""

    @classmethod
    def measure(cls, catalog: CatalogSnapshot) -> Self:
        """Time each way on some of the catalog's own vectors."""
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            return cls._measure(catalog)
        finally:
            faiss.omp_set_num_threads(threads)

    @classmethod
    def _measure(cls, catalog: CatalogSnapshot) -> Self:
        if not catalog.rows:  # items that come are few: scan them
            return cls(gathered=_LEAST_SECONDS, scanned=_LEAST_SECONDS)
        draw = np.random.default_rng(0)
        rows = np.sort(draw.integers(0, catalog.rows, min(GATHERED, catalog.rows)))
        queries_BD = catalog.vectors(rows[:REPEATS])
        query_D = queries_BD[0]
        _, block_ND = next(iter(catalog.blocks(SCANNED)))
        mask = draw.random(len(block_ND)) < 0.5

        def gather() -> None:
            Best(TAKEN).offer(rows, catalog.vectors(rows) @ query_D)

        def scan() -> None:
            scores = block_ND @ query_D
            scores[~mask] = -np.inf
            Best(TAKEN).offer(0, scores)

        index: list[tuple[int, float]] = []
        searched = catalog.base.index
        waits = searched.on_device or searched.remote
        if waits or not searched.exact:
            for depth in sorted({min(depth, catalog.rows) for depth in DEPTHS}):
                searches = [partial(catalog.search, query_1D, depth) for query_1D in queries_BD[:, None]]
                index.append((depth, _least(searches, perf_counter if waits else thread_time)))
        return cls(
            gathered=_least([gather] * REPEATS) / len(rows),
            scanned=_least([scan] * REPEATS) / len(block_ND),
            index=tuple(index),
            deepest=searched.most_results,
        )

    @property
    def whole_share(self) -> float:
        """Share of eligible rows from which a whole scan costs less than gathering them."""
        return min(1.0, self.scanned / self.gathered)

    def exact(self, eligible: int, rows: int) -> float:
        """Return the seconds of scoring all ``eligible`` of ``rows``."""
        return min(eligible * self.gathered, rows * self.scanned)

    def approximate(self, depth: int) -> float:
        """Return the seconds of searching the index for ``depth`` results, without end beyond the deepest or if not timed."""
        if depth > self.deepest or not self.index:
            return math.inf
        enough = next((seconds for number, seconds in self.index if number >= depth), None)
        if enough is not None:
            return enough
        most, seconds = self.index[-1]
        return seconds * depth / most


def _least(works: Sequence[Callable[[], object]], clock: Callable[[], float] = thread_time) -> float:
    times = []
    for work in works:
        start = clock()
        work()
        times.append(clock() - start)
    return max(min(times), _LEAST_SECONDS)
