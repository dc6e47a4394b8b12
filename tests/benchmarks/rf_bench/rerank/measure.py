"""Times of re-rankers, one request at a time on one thread, in turns.

Shapes: N items, T interactions, K candidates, D width of the towers, W width of what is kept of an item.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from time import perf_counter, thread_time

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rf_bench.rerank.options import KINDS, RerankBenchOptions, powers
from rf_platform.cli.console import track
from rf_training.rerank import Histories, Ranker, make_ranker

PARTS = ("user", "gather", "score")
TURN_SECONDS, TURN_CALLS = 0.01, 10
"""A turn of one re-ranker ends after this time or so many requests, whichever is first, but not without one."""
USER_GROWTH, SCORE_GROWTH = 4, 2
"""Most that a part grows by when the history, or the number of candidates, doubles."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Cost of one request of one size with one re-ranker: medians of milliseconds."""

    kind: str
    candidates: int
    history: int
    cpu_ms: dict[str, float]
    """CPU time of the thread by part, and ``total``: ``user`` is what is computed whatever the candidates are, ``gather`` fetches
    the candidates' item states, ``score`` is the rest."""
    ms: float
    """Time by the clock, all parts."""
    requests: int
    """Number of timed requests."""

    @property
    def total(self) -> float:
        """CPU time of all parts."""
        return self.cpu_ms["total"]


@dataclass(frozen=True, kw_only=True)
class NotMeasured:
    """A size that would have taken too long."""

    kind: str
    candidates: int
    history: int
    expected_ms: float
    """CPU time, going by smaller sizes."""


class Contender:
    """One re-ranker with the item states of the catalog, as a bundle holds them."""

    def __init__(self, ranker: Ranker, items_ND: Tensor) -> None:
        self._ranker = ranker.eval()
        self._rows_NW = ranker.item_state(items_ND).half()
        self._expected: dict[tuple[str, int, int], float] = {}

    @property
    def item_bytes(self) -> int:
        """Bytes kept of an item."""
        return self._rows_NW.shape[1] * self._rows_NW.element_size()

    def answer(self, histories: Histories, found_K: Tensor, dot_1K: Tensor) -> npt.NDArray[np.float64]:
        """Score one request; return the CPU seconds of each part and, last, all seconds by the clock."""
        clock, begin = perf_counter(), thread_time()
        user = self._ranker.user_state(histories)
        encoded = thread_time()
        item_1KW = self._rows_NW.index_select(0, found_K).float()[None]
        gathered = thread_time()
        self._ranker(user, item_1KW, dot_1K)
        end, clocked = thread_time(), perf_counter()
        return np.array([encoded - begin, gathered - encoded, end - gathered, clocked - clock])

    def expected_ms(self, candidates: int, history: int) -> float:
        """Return the CPU milliseconds that a size can be expected to take at most; 0 where nothing smaller was met."""
        return self._user(history) + self._score(candidates, history)

    def learn(self, candidates: int, history: int, cpu_ms: dict[str, float] | None) -> None:
        """Remember what a size took, or, with None, what it was expected to take."""
        user, score = self._user(history), self._score(candidates, history)
        if cpu_ms is not None:
            user, score = cpu_ms["user"], cpu_ms["gather"] + cpu_ms["score"]
        self._expected["user", 0, history] = user
        self._expected["score", candidates, history] = score

    def _user(self, history: int) -> float:
        known = self._expected
        return known.get(("user", 0, history), USER_GROWTH * known.get(("user", 0, history // 2), 0.0))

    def _score(self, candidates: int, history: int) -> float:
        smaller = ((candidates // 2, history), (candidates, history // 2))
        return SCORE_GROWTH * max(self._expected.get(("score", *size), 0.0) for size in smaller)


@torch.inference_mode()
def measure(options: RerankBenchOptions) -> tuple[list[Measured], list[NotMeasured], dict[str, int]]:
    """Measure all sizes; return them, those that were left out, and the bytes that each re-ranker keeps of an item.

    Vectors are random and weights are as they start: the time does not depend on them.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measure(options)
    finally:
        torch.set_num_threads(threads)


def _measure(options: RerankBenchOptions) -> tuple[list[Measured], list[NotMeasured], dict[str, int]]:
    torch.manual_seed(options.seed)
    items_ND = torch.randn(options.items, options.dim)
    contenders = {kind: Contender(make_ranker(options.config(kind), options.dim), items_ND) for kind in KINDS}
    measured: list[Measured] = []
    left_out: list[NotMeasured] = []
    sizes = list(product(powers(options.history), powers(options.candidates)))
    with track("re-ranking", len(sizes)) as progress:
        for history, candidates in sizes:
            running: dict[str, Contender] = {}
            for kind, contender in contenders.items():
                expected = contender.expected_ms(candidates, history)
                if expected <= options.limit * 1000:
                    running[kind] = contender
                    continue
                contender.learn(candidates, history, None)
                left_out.append(NotMeasured(kind=kind, candidates=candidates, history=history, expected_ms=expected))
            for each in _turns(running, candidates, history, options):
                running[each.kind].learn(candidates, history, each.cpu_ms)
                measured.append(each)
            progress.advance(note=f"{candidates} candidates, {history} interactions")
    return measured, left_out, {kind: contender.item_bytes for kind, contender in contenders.items()}


def _turns(
    running: dict[str, Contender], candidates: int, history: int, options: RerankBenchOptions
) -> Sequence[Measured]:
    histories = Histories(
        tokens_BTD=torch.randn(1, history, options.dim),
        length_B=torch.tensor([history]),
        user_BD=torch.randn(1, options.dim),
    )
    dot_1K = torch.rand(1, candidates)

    def request() -> tuple[Histories, Tensor, Tensor]:
        return histories, torch.randint(options.items, (candidates,)), dot_1K

    times: dict[str, list[npt.NDArray[np.float64]]] = {kind: [] for kind in running}
    for contender in running.values():
        contender.answer(*request())
    for _ in range(options.rounds):
        for kind, contender in running.items():
            times[kind] += _turn(contender, request)
    return [_medians(kind, candidates, history, np.stack(seconds)) for kind, seconds in times.items()]


def _turn(
    contender: Contender, request: Callable[[], tuple[Histories, Tensor, Tensor]]
) -> list[npt.NDArray[np.float64]]:
    seconds = [contender.answer(*request())]
    while len(seconds) < TURN_CALLS and sum(each[-1] for each in seconds) < TURN_SECONDS:
        seconds.append(contender.answer(*request()))
    return seconds


def _medians(kind: str, candidates: int, history: int, seconds: npt.NDArray[np.float64]) -> Measured:
    parts = dict(zip(PARTS, (np.median(seconds[:, :-1], axis=0) * 1000).tolist(), strict=True))
    total = float(np.median(seconds[:, :-1].sum(axis=1)) * 1000)
    return Measured(
        kind=kind,
        candidates=candidates,
        history=history,
        cpu_ms={**parts, "total": total},
        ms=float(np.median(seconds[:, -1]) * 1000),
        requests=len(seconds),
    )
