import numpy as np
import numpy.typing as npt
import pytest

from rf_training.evaluation import EvaluationReport, EventSequences, Jagged, Split, evaluate, report_markdown
from rf_training.evaluation.rendering import NONE

N_ITEMS = 50
SEQUENCES = EventSequences.leave_one_out([[u % 25, (u + 1) % 25, (u + 2) % 25, 30 + u % 20] for u in range(100)])
"""The test targets are the items 30 to 49, five times each; they have no training event."""


class Found:
    """Higher items first; what is missing was not found."""

    def __init__(self, name: str, missing: int = 0) -> None:
        self.name = name
        self.row = np.arange(N_ITEMS, dtype=np.float32)
        self.row[N_ITEMS - missing :] = -np.inf

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        return np.broadcast_to(self.row, (len(users), N_ITEMS))


def report(exact: Found, approximate: Found) -> EvaluationReport:
    return evaluate(
        SEQUENCES,
        [exact, approximate],
        n_items=N_ITEMS,
        split=Split.TEST,
        seed=0,
        exact_of={approximate.name: exact.name},
        resamples=200,
    )


def test_the_share_kept_by_hand() -> None:
    # The exact ranking finds all targets among the first 20; two of these 20 items are missing in the index.
    made = report(Found("model"), Found("model (hnsw)", missing=2))
    for each, seen in zip(made.approximations, ("kept", "excluded"), strict=True):
        assert (each.scorer, each.exact, each.seen, each.metric) == ("model (hnsw)", "model", seen, "recall@20")
        assert each.exact_value == 1
        assert each.value == pytest.approx(0.9)
        assert each.kept == pytest.approx(0.9)
        assert each.difference.value == pytest.approx(-0.1)
        assert -0.2 < each.difference.low < -0.1 < each.difference.high < 0
    assert "| model (hnsw) (kept) | 1.0000 | 0.9000 | 90.00% | -0.1000 [" in report_markdown(made)


def test_nothing_lost() -> None:
    made = report(Found("model"), Found("model (hnsw)"))
    assert [each.kept for each in made.approximations] == [1, 1]


def test_no_hit_to_keep() -> None:
    class Wrong(Found):
        def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
            return -super().scores(users, histories)

    made = report(Wrong("model"), Found("model (hnsw)"))
    assert [each.kept for each in made.approximations] == [None, None]
    assert f"| model (hnsw) (kept) | 0.0000 | 1.0000 | {NONE} |" in report_markdown(made)


def test_an_index_does_not_rank_cold_items_on_their_own() -> None:
    made = report(Found("model"), Found("model (hnsw)"))
    assert made.warm_cold is not None
    among = made.warm_cold.group("cold", "cold")
    assert among is not None
    assert [result.scorer for result in among.results] == ["model"]
