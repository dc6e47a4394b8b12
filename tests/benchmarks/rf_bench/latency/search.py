"""Recall and latency of several indexes over the same rows, side by side.

Shapes: N items, B queries, D width.
"""

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_bench.latency.options import RECALL_AT, RESULTS
from rf_platform.cli.console import track
from rf_serving.index import ApproximateIndex, Effort, Found, VectorIndex, exact_search
from rf_serving.index.faiss_library import faiss
from rf_serving.index.tune import ROUNDING

SLOW_SECONDS = 60.0
"""Time limit of one kind: fewer queries where that is not enough for all, which concerns the exact scan of large catalogs."""
FEWEST = 3
"""Queries of a kind in a round, at least."""
CURVE_QUERIES = 300
"""Queries that time a point of the curve."""
CURVE_ENDS = 0.9995
"""Recall at which the curve is as good as at its end."""

Search = Callable[[npt.NDArray[np.float32]], Found]


def measure_search(
    indexes: Mapping[str, VectorIndex],
    vectors_ND: npt.NDArray[np.float32],
    queries_BD: npt.NDArray[np.float32],
    rounds: int,
    truth_threads: int,
) -> dict[str, Any]:
    """Return recall, latency and CPU time of every index, and the curve of the approximate ones.

    Args:
        indexes: by kind; ``exact`` among them.
        vectors_ND: the rows.
        queries_BD: asked one at a time, by the calling thread alone.
        rounds: the kinds take turns so many times, so that what else the machine does meets them all.
        truth_threads: threads that find the true results, before anything is timed.
    """
    faiss.omp_set_num_threads(truth_threads)
    truth = exact_search(vectors_ND, queries_BD, RESULTS).scores
    faiss.omp_set_num_threads(1)
    results: dict[str, Any] = {}
    searches = {kind: _ask(index) for kind, index in indexes.items()}
    for kind, search in searches.items():
        found = [search(query_BD).scores for query_BD in _singles(queries_BD)] if kind != "exact" else [truth]
        results[kind] = {"recall": recalls(np.concatenate(found), truth)}
    for kind, timing in _take_turns(searches, queries_BD, rounds).items():
        results[kind] |= timing
    scan = results["exact"]
    for kind, result in results.items():
        ratios = [a / b for a, b in zip(scan["round_ms"], result["round_ms"], strict=True)]
        result["speedup"] = {
            "p50": scan["ms"]["p50"] / result["ms"]["p50"],
            "p99": scan["ms"]["p99"] / result["ms"]["p99"],
            "cpu": scan["cpu_ms"]["p50"] / result["cpu_ms"]["p50"],
            "rounds": [min(ratios), median(ratios), max(ratios)],
        }
        index = indexes[kind]
        if isinstance(index, ApproximateIndex):
            result["curve"] = _curve(index, queries_BD, truth, scan["ms"]["p50"])
    return results


def recalls(scores_BK: npt.NDArray[np.float32], truth_BK: npt.NDArray[np.float32]) -> dict[str, float]:
    """Return the share of the true best k rows among the first k found, for each k of :data:`RECALL_AT`.

    Both are exact scores, best first; a row that scores as well as the k-th true one counts as found.
    """
    return {str(k): float((scores_BK[:, :k] >= truth_BK[:, k - 1 : k] - ROUNDING).mean()) for k in RECALL_AT}


def _take_turns(
    searches: Mapping[str, Search], queries_BD: npt.NDArray[np.float32], rounds: int
) -> dict[str, dict[str, Any]]:
    """Time single queries, all kinds in each round, each round beginning with another one."""
    kinds = list(searches)
    singles = _singles(queries_BD)
    share = {}
    for kind, search in searches.items():
        begin = perf_counter()
        search(singles[0])
        affordable = int(SLOW_SECONDS / rounds / (perf_counter() - begin))
        share[kind] = max(FEWEST, min(affordable, len(singles) // rounds))
    seconds: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    cpu: dict[str, list[float]] = {kind: [] for kind in kinds}
    with track("timing single queries", rounds) as progress:
        for number in range(rounds):
            for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
                some = [singles[(number * share[kind] + i) % len(singles)] for i in range(share[kind])]
                wall, own = _time(searches[kind], some)
                seconds[kind].append(wall)
                cpu[kind] += own
            progress.advance()
    return {
        kind: {
            "ms": _summary([s for part in seconds[kind] for s in part]),
            "cpu_ms": _summary(cpu[kind]),
            "round_ms": [median(part) * 1e3 for part in seconds[kind]],
            "timed": rounds * share[kind],
        }
        for kind in kinds
    }


def _curve(
    index: ApproximateIndex,
    queries_BD: npt.NDArray[np.float32],
    truth_BK: npt.NDArray[np.float32],
    scan_ms: float,
) -> list[dict[str, Any]]:
    """Return recall and latency at rising numbers of probes with the tuned short list, until nothing is left to gain."""
    tuned = index.efforts.of(RESULTS)
    singles = _singles(queries_BD)
    points: list[dict[str, Any]] = []
    for probes in sorted({*index.probes(RESULTS), tuned.probes}):
        effort = Effort(k=RESULTS, probes=probes, refine_k=tuned.refine_k)

        def search(query_BD: npt.NDArray[np.float32], effort: Effort = effort) -> Found:
            return index.search_with(query_BD, RESULTS, effort)

        found = np.concatenate([search(query_BD).scores for query_BD in singles])
        wall, own = _time(search, singles[:CURVE_QUERIES])
        points.append(
            {
                "probes": probes,
                "refine_k": effort.refine_k,
                "tuned": effort == tuned,
                "recall": recalls(found, truth_BK),
                "ms": _summary(wall),
                "cpu_ms": _summary(own),
            }
        )
        last = points[-1]["recall"][str(RESULTS)]
        stuck = len(points) > 3 and last - points[-4]["recall"][str(RESULTS)] < 1e-4 and probes > tuned.probes
        if last >= CURVE_ENDS or stuck or (points[-1]["ms"]["p50"] > scan_ms and probes > tuned.probes):
            break
    return points


def _time(search: Search, singles: list[npt.NDArray[np.float32]]) -> tuple[list[float], list[float]]:
    """Return wall and CPU seconds of each query."""
    wall, own = [], []
    for query_BD in singles:
        begin, cpu = perf_counter(), thread_time()
        search(query_BD)
        own.append(thread_time() - cpu)
        wall.append(perf_counter() - begin)
    return wall, own


def _ask(index: VectorIndex) -> Search:
    return lambda query_BD: index.search(query_BD, RESULTS)


def _singles(queries_BD: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    return [queries_BD[row : row + 1] for row in range(len(queries_BD))]


def _summary(seconds: list[float]) -> dict[str, float]:
    """Return milliseconds."""
    p50, p90, p99 = np.percentile(seconds, [50, 90, 99]) * 1e3
    return {"p50": float(p50), "p90": float(p90), "p99": float(p99), "mean": float(np.mean(seconds) * 1e3)}
