"""The line "as served": what a user has had is in no answer, not even where the evaluation asks for it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from rf_training.evaluation import Served, Split, evaluate, report_markdown
from rf_training.evaluation.report import EvaluationReport
from rf_training.evaluation.sequences import EventSequences, Jagged

ITEMS = 7
# The last event of each is the target: new, had before, new.
USERS = [[0, 1, 2, 3], [4, 5, 4], [6, 6, 0, 1]]


@dataclass(frozen=True)
class Rising:
    """Likes items with large numbers, or with small ones."""

    name: str
    sign: int = 1

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        return np.tile(np.arange(ITEMS, dtype=np.float32) * self.sign, (len(users), 1))


def report(served: Served | None) -> EvaluationReport:
    return evaluate(
        EventSequences.leave_one_out(USERS),
        [Rising("rising")],
        n_items=ITEMS,
        split=Split.TEST,
        seed=0,
        served=served,
        resamples=20,
    )


@pytest.mark.parametrize("evaluated", [True, False])
def test_a_target_that_was_had_before_is_not_found(evaluated: bool) -> None:
    found = report(Served(scorer=Rising("rising"), exact="rising", evaluated=evaluated))
    # Left are 6 5 4 3, then 6 (4) 3 2 1 0 with the target in the evaluation only, and 5 4 3 2 1: places 4, 2 and 5.
    exact = found.result("rising", "excluded").metrics
    assert exact["recall@5"].value == 1.0
    assert exact["mrr"].value == pytest.approx((1 / 4 + 1 / 2 + 1 / 5) / 3)
    assert found.served is not None
    served = found.served.metrics
    assert (found.served.scorer, found.served.seen) == ("rising, as served", "excluded")
    for cutoff in (5, 10, 20, 50):
        assert served[f"recall@{cutoff}"].value == pytest.approx(2 / 3)
    assert served["mrr@50"].value == pytest.approx((1 / 4 + 1 / 5) / 3)
    assert served["auc"].value == pytest.approx((exact["auc"].value * 3 - 4 / 5) / 3)
    assert found.served.differences is not None
    assert found.served.differences["recall@5"].value == pytest.approx(-1 / 3)
    lines = [line for line in report_markdown(found).splitlines() if line.startswith("| rising, as served |")]
    assert len(lines) == 1
    assert ".6667" in lines[0]
    assert found.to_dict()["served"]["metrics"]["recall@5"]["value"] == pytest.approx(2 / 3)


def test_what_is_served_may_find_other_things_than_the_exact_ranking() -> None:
    found = report(Served(scorer=Rising("falling", -1), exact="rising"))
    assert found.served is not None
    # 3, none, 1: places 1 and 1.
    assert found.served.metrics["mrr@5"].value == pytest.approx(2 / 3)
    assert report(None).served is None
