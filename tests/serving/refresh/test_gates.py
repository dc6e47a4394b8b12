"""Gates by hand: the whole interval has to lie above the margin."""

from pathlib import Path
from typing import Any

import pytest

from rf_platform.errors import UsageError
from rf_serving.refresh.comparison import Comparison
from rf_serving.refresh.gates import Candidate, NotWorse, judge_all
from rf_training.evaluation.bootstrap import Estimate


def candidate(low: float, value: float, high: float) -> Candidate:
    run: Any = Path("unused")
    of = {"ndcg@20": Estimate(0.2, 0.19, 0.21)}
    found = Comparison(
        run="r",
        against="b",
        split="test",
        cases=500,
        candidate={"ndcg@20": Estimate(0.2 + value, 0, 1)},
        served=of,
        differences={"ndcg@20": Estimate(value, low, high)},
    )
    assert Comparison.from_dict(found.to_dict()) == found
    return Candidate(run=run, comparison=found)


@pytest.mark.parametrize(
    ("low", "value", "margin", "passes", "said"),
    [
        (0.001, 0.01, 0.0, True, "+0.0100 [+0.0010"),
        (-0.019, 0.01, 0.1, True, "of 'b' on 500 users"),
        (-0.021, 0.01, 0.1, False, "too few users to tell, or worse"),
        (-0.04, -0.03, 0.1, False, "-0.0200 is the least allowed: worse"),
    ],
)
def test_not_worse(low: float, value: float, margin: float, passes: bool, said: str) -> None:
    (verdict,) = judge_all([NotWorse(margin=margin)], candidate(low, value, 0.05))
    assert (verdict.passed, said in verdict.said) == (passes, True)


def test_without_a_served_bundle_all_pass() -> None:
    run: Any = None
    assert NotWorse().judge(Candidate(run=run, comparison=None)).passed


def test_margins() -> None:
    with pytest.raises(UsageError, match=r"--margin=1\.5"):
        NotWorse(margin=1.5)
