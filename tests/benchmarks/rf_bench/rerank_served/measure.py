"""Cost of re-ranking in the answers of a bundle, by the stages' own times.

Shapes: N items, D width of the towers.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import process_time

import numpy as np
import torch

from rf_protos.v1.retrieval_pb2 import RERANK_EXACT, RERANK_LIME, RERANK_NONE, Interaction, Session
from rf_serving.bundle.reranker import item_states
from rf_serving.bundle.served import ServedBundle
from rf_serving.ranking.policy import RerankPolicy, name_of
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Query
from rf_serving.stage_timer import StageTimer
from rf_serving.threads import use_one_thread
from rf_training.rerank import RerankConfig, make_ranker

_WARM = 20
_ORDERS = (RERANK_NONE, RERANK_EXACT, RERANK_LIME)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Milliseconds of one request, of an order and a number of candidates."""

    order: str
    candidates: int
    """Items found to be ordered; with ``none`` and, of an exact index, ``exact``, those asked for alone are."""
    rerank_ms: float
    """Median of the stage itself: beginning the user state, and from the end of the search to the order; 0 without."""
    rerank_p99_ms: float
    encode_ms: float
    """Median."""
    search_ms: float
    """Median; the user state is computed meanwhile."""
    total_ms: float
    """Median of all stages together."""
    added_ms: float
    """Median of what the request takes more than in the order of the search."""
    cpu_ms: float
    """Median CPU time of the request in all threads: what a busy machine says, too."""
    added_cpu_ms: float


def measure(
    bundle: ServedBundle, candidates: Sequence[int], *, k: int, history: int, requests: int, seed: int
) -> list[Measured]:
    """Answer the same sessions in every order, in turns, one at a time on one core."""
    rng = np.random.default_rng(seed)
    items = [str(item) for item in bundle.item_ids]
    sessions = [
        Session(history=[Interaction(item_id=items[row]) for row in rng.integers(0, len(items), history)])
        for _ in range(_WARM + requests)
    ]
    with _one_core():
        return [row for count in candidates for row in _measure(bundle, count, sessions, k)]


def with_untrained(bundle: ServedBundle, kind: str, seed: int) -> ServedBundle:
    """Return a bundle with a re-ranker that nobody trained: it costs what a trained one does."""
    torch.manual_seed(seed)
    dim = bundle.model.config.dim
    ranker = make_ranker(RerankConfig(kind=kind), dim).eval()
    return replace(bundle, ranker=ranker, item_states_NW=item_states(ranker, bundle.vectors_ND, dim))


def _measure(bundle: ServedBundle, candidates: int, sessions: Sequence[Session], k: int) -> Iterator[Measured]:
    engine = Engine(bundle, reranking=RerankPolicy(candidates=candidates))
    stages: dict[str, list[dict[str, float]]] = {name_of(order): [] for order in _ORDERS}
    cpu: dict[str, list[float]] = {name_of(order): [] for order in _ORDERS}
    for number, session in enumerate(sessions):
        for order in _ORDERS:
            watch = StageTimer(lambda stage, seconds: None)
            query = Query(subject=session, k=k, exclude_seen=True, rerank=order, history=False)
            begin = process_time()
            answer = engine.rank(None, query, watch)
            used = process_time() - begin
            assert answer.rerank == order
            if number >= _WARM:
                stages[name_of(order)].append(watch.seconds)
                cpu[name_of(order)].append(used)
    plain = np.array([sum(seconds.values()) for seconds in stages[name_of(RERANK_NONE)]])
    for name, rows in stages.items():
        rerank = np.array([seconds.get("rerank", 0.0) for seconds in rows])
        total = np.array([sum(seconds.values()) for seconds in rows])
        yield Measured(
            order=name,
            candidates=candidates,
            rerank_ms=_ms(rerank),
            rerank_p99_ms=float(np.percentile(rerank, 99)) * 1000,
            encode_ms=_ms(np.array([seconds["encode"] for seconds in rows])),
            search_ms=_ms(np.array([seconds["search"] for seconds in rows])),
            total_ms=_ms(total),
            added_ms=_ms(total - plain),
            cpu_ms=_ms(np.array(cpu[name])),
            added_cpu_ms=_ms(np.array(cpu[name]) - np.array(cpu[name_of(RERANK_NONE)])),
        )


def _ms(seconds: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    return float(np.median(seconds)) * 1000


@contextmanager
def _one_core() -> Iterator[None]:
    """Have everything in this block share one core: what runs beside the search takes its time from it."""
    use_one_thread()
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
