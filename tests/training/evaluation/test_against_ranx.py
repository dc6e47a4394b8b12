import importlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.metrics import REPORT_METRICS
from rf_training.evaluation.ranking import rank_targets
from rf_training.evaluation.sequences import EventSequences, Jagged, Split

N_USERS, N_ITEMS = 60, 50


class TableScorer:
    name = "table"

    def __init__(self, table: npt.NDArray[np.float32]) -> None:
        self.table = table

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        return self.table[users]


@pytest.fixture
def ranx(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library run as plain Python: compiling it takes half a minute, this test's data milliseconds."""
    monkeypatch.setattr(importlib.import_module("numba").config, "DISABLE_JIT", True)
    return importlib.import_module("ranx")


def test_ranks_and_metrics_agree_with_ranx(ranx: Any) -> None:
    rng = np.random.default_rng(7)
    users = [rng.choice(N_ITEMS, size=rng.integers(3, 20), replace=False).tolist() for _ in range(N_USERS)]
    scores = rng.permuted(np.tile(np.arange(N_ITEMS, dtype=np.float32), (N_USERS, 1)), axis=1)  # no ties
    cases = EvaluationCases.from_sequences(EventSequences.leave_one_out(users), n_items=N_ITEMS, split=Split.TEST)
    ranks = rank_targets(TableScorer(scores), cases, seed=0)

    qrels = ranx.Qrels({str(u): {str(items[-1]): 1} for u, items in enumerate(users)})
    for ours, candidates in (
        (ranks.kept, lambda u: range(N_ITEMS)),
        (ranks.excluded, lambda u: set(range(N_ITEMS)) - set(users[u][:-1])),
    ):
        run = ranx.Run({str(u): {str(i): float(scores[u, i]) for i in candidates(u)} for u in range(N_USERS)})
        ranx.evaluate(qrels, run, [metric.label.lower() for metric in REPORT_METRICS])
        for metric in REPORT_METRICS:
            theirs = run.scores[metric.label.lower()]
            np.testing.assert_allclose(metric(ours), [theirs[str(u)] for u in range(N_USERS)], err_msg=metric.label)
