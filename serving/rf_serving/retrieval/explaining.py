"""Explanations beside the answers of others: within a budget, in a thread of lower priority."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from time import perf_counter

from rf_protos.v1.explanation_pb2 import Explanation
from rf_protos.v1.retrieval_pb2 import RERANK_LIME
from rf_serving.explain import explain_popular
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Answer, Ranked
from rf_serving.threads import step_back, use_one_thread

EXPLAIN_SECONDS = 0.5
_GRACE = 1.2
"""Times the budget: the explainer checks the clock between two steps only."""


class Explaining:
    """One thread of lower priority for the explanations of a process: requests that want none do not wait for those that do."""

    def __init__(self, seconds: float = EXPLAIN_SECONDS) -> None:
        """``seconds``: how long an answer may wait for its explanations; what is not done by then is left out."""
        self._seconds = seconds
        self._thread = ThreadPoolExecutor(1, "rf-explain", _begin)

    async def explain(self, engine: Engine, answer: Answer) -> Sequence[Explanation]:
        """Return the explanations of the first items, of as many as there was time for."""
        if answer.ranked is None:
            return explain_popular(answer.scores)
        return _with_rules(answer, await self._explained(engine, answer.ranked))

    async def _explained(self, engine: Engine, ranked: Ranked) -> Sequence[Explanation]:
        until = perf_counter() + self._seconds
        work = asyncio.get_running_loop().run_in_executor(self._thread, _explain, engine, ranked, until)
        try:
            return await asyncio.wait_for(work, self._seconds * _GRACE)
        except TimeoutError:
            return []

    def close(self) -> None:
        """Stop the thread; what waits is dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _with_rules(answer: Answer, explanations: Sequence[Explanation]) -> Sequence[Explanation]:
    """Return explanations with the rules that moved each item before other reasons; rules are told however short time is."""
    if answer.ruled is None:
        return explanations
    pairs = zip_longest(answer.ruled.reasons, explanations)
    return [Explanation(reasons=[*rules, *(found.reasons if found else ())]) for rules, found in pairs]


def _begin() -> None:
    step_back()
    use_one_thread()


def _explain(engine: Engine, ranked: Ranked, until: float) -> Sequence[Explanation]:
    if perf_counter() >= until:
        return []
    ranker = engine.bundle.ranker if ranked.rerank == RERANK_LIME else None
    return engine.explainer.explain(ranked.known, ranked.catalog, ranked.rows_K, ranker=ranker, until=until)
