"""Filtered search as in yfcc-10M, the filter track of the big-ANN challenge: every query has one or two tags of its own.

Shapes: N items, B queries, K results.
"""

from dataclasses import dataclass
from time import process_time, thread_time

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_bench.filter.catalog import TAGS, FilteredCatalog
from rf_platform.cli.console import track
from rf_platform.features.jagged import Jagged
from rf_protos.v1.retrieval_pb2 import SearchPlan
from rf_serving.search import Condition, Eligibility, ItemFilter
from rf_serving.search.condition import Operator
from rf_serving.search.costs import SearchCosts
from rf_serving.search.eligibility import NO_ROWS
from rf_serving.search.searcher import Search, Searcher

WORDS = 20_000
"""Tags that have nothing to do with the item, as years, places and cameras have with a picture."""
WORDS_OF_ITEM = 6
LIKE = 100
"""The item that a query takes its tags from is one of so many closest to it."""
PARTS = 4
"""Parts of the stream that are told apart: what filters cost at first, and once the frequent ones are known."""
CHECKED = 200
"""Queries of the last part that the recall is measured on."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some requests of the stream, one after the other."""

    requests: int
    ms_mean: float
    """CPU of the thread that answers."""
    ms_p50: float
    ms_p99: float
    per_second: float
    """Requests for a second of that CPU."""
    beside_ms: float
    """CPU of other threads, for each request."""
    approximate: float
    """Share that was not scored exactly."""
    recall: float | None = None


def with_words(tags: Jagged, brands: npt.NDArray[np.int64], seed: int) -> pa.Array:
    """Return the tags of every item: those of its topic, its brand, and words with Zipf's law."""
    draw = np.random.default_rng([seed, 4])
    share = 1 / np.arange(1, WORDS + 1)
    edges = np.cumsum(share / share.sum())
    own = tags.values.reshape(len(brands), -1)
    first = int(own.max()) + 1
    brand = brands[:, None] + first
    words = edges.searchsorted(draw.random((len(brands), WORDS_OF_ITEM)), side="right").clip(max=WORDS - 1)
    every = np.hstack([own, brand, words + int(brand.max()) + 1])
    offsets = np.arange(0, every.size + 1, every.shape[1]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(every.reshape(-1)))


def requests_of(world: FilteredCatalog, count: int, seed: int) -> list[tuple[npt.NDArray[np.float32], ItemFilter]]:
    """Return queries with one or two tags of an item close to each."""
    draw = np.random.default_rng([seed, 5])
    queries_BD = world.queries_BD[draw.integers(0, len(world.queries_BD), count)]
    near_BK = np.concatenate(
        [world.catalog.search(some, LIKE).rows for some in np.array_split(queries_BD, 1 + count // 256)]
    )
    item_B = near_BK[np.arange(count), draw.integers(0, near_BK.shape[1], count)]
    tags_B = world.catalog.base.column(TAGS).take(pa.array(item_B)).to_pylist()
    asked = []
    for query_D, tags in zip(queries_BD, tags_B, strict=True):
        chosen = draw.choice(sorted(set(tags)), int(draw.integers(1, 3)), replace=False).tolist()
        asked.append((query_D, ItemFilter(where=frozenset(_has(tag) for tag in chosen))))
    return asked


def measure_stream(
    world: FilteredCatalog, requests: list[tuple[npt.NDArray[np.float32], ItemFilter]], k: int, costs: SearchCosts
) -> list[Part]:
    """Answer the requests one by one on one thread, as the server plans them; return the parts."""
    eligibility, searcher = Eligibility(world.spec), Searcher(costs)
    eligibility.of(world.catalog, ItemFilter(where=frozenset({_has(-1)})))  # makes the layout
    parts, size = [], len(requests) // PARTS
    with track("requests", PARTS) as progress:
        for number in range(PARTS):
            some = requests[number * size : (number + 1) * size]
            times, found, approximate = [], [], 0
            whole, mine = process_time(), thread_time()
            for query_D, asked in some:
                begin = thread_time()
                eligible = eligibility.of(world.catalog, asked)
                search = Search(query_D=query_D, k=k, eligible=eligible, seen=NO_ROWS, filtered=True)
                (result,) = searcher.find(world.catalog, [search])
                times.append(thread_time() - begin)
                found.append(result.found.rows)
                approximate += result.strategy == SearchPlan.APPROXIMATE
            beside = (process_time() - whole) - (thread_time() - mine)
            last = number == PARTS - 1
            parts.append(
                Part(
                    requests=len(some),
                    ms_mean=float(np.mean(times) * 1000),
                    ms_p50=float(np.percentile(times, 50) * 1000),
                    ms_p99=float(np.percentile(times, 99) * 1000),
                    per_second=float(1 / np.mean(times)),
                    beside_ms=max(0.0, beside) * 1000 / len(some),
                    approximate=approximate / len(some),
                    recall=_recall(world, some[-CHECKED:], found[-CHECKED:], k) if last else None,
                )
            )
            progress.advance()
    return parts


def _recall(
    world: FilteredCatalog,
    requests: list[tuple[npt.NDArray[np.float32], ItemFilter]],
    found: list[npt.NDArray[np.int64]],
    k: int,
) -> float:
    """Return the mean share of the true K best, found by scoring all that passes a fresh evaluation of the filter."""
    eligibility, shares = Eligibility(world.spec), []
    for (query_D, asked), rows in zip(requests, found, strict=True):
        passing_E = eligibility.of(world.catalog, asked).passing.rows
        best = passing_E[np.argsort(-(world.catalog.vectors(passing_E) @ query_D), kind="stable")[:k]]
        shares.append(len(np.intersect1d(best, rows)) / len(best))
    return float(np.mean(shares))


def _has(tag: int) -> Condition:
    return Condition(feature=TAGS, operator=Operator.ANY_OF, values=(tag,))
