import io
import json
import re

import numpy as np
import numpy.typing as npt
import pytest
from rich.console import Console

from rf_training.evaluation import (
    EvaluationReport,
    EventSequences,
    Jagged,
    Split,
    evaluate,
    report_markdown,
    report_tables,
)
from rf_training.evaluation.rendering import NONE
from rf_training.evaluation.warm_cold import WarmCold

N_ITEMS = 60
"""Items 0 to 29 have training events, 30 to 59 have none."""
WARM, COLD = 40, 20
USERS = [
    [u % 30, (u + 1) % 30, (u + 2) % 30, (u + 9) % 30 if u < WARM else 30 + (u * 7) % 30] for u in range(WARM + COLD)
]
TARGETS = np.array([items[-1] for items in USERS])


class Prefers:
    """Scores an item by its row, plus what is added to the cold ones."""

    def __init__(self, name: str, cold: float) -> None:
        self.name = name
        self.row = np.arange(N_ITEMS, dtype=np.float32)
        self.row[30:] += cold

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        return np.broadcast_to(self.row, (len(users), N_ITEMS))


def report(users: list[list[int]] = USERS) -> EvaluationReport:
    scorers = [Prefers("new first", 0), Prefers("new last", -100)]
    sequences = EventSequences.leave_one_out(users)
    return evaluate(sequences, scorers, n_items=N_ITEMS, split=Split.TEST, seed=0, reference="new first", resamples=200)


@pytest.fixture(scope="module")
def made() -> EvaluationReport:
    return report()


@pytest.fixture(scope="module")
def found(made: EvaluationReport) -> WarmCold:
    assert made.warm_cold is not None
    return made.warm_cold


def value(found: WarmCold, targets: str, candidates: str, scorer: str, seen: str, metric: str) -> float:
    group = found.group(targets, candidates)
    assert group is not None
    return next(r.metrics[metric].value for r in group.results if (r.scorer, r.seen) == (scorer, seen))


def test_each_kind_of_target_is_counted(made: EvaluationReport, found: WarmCold) -> None:
    assert (made.cases, made.cold_targets, found.cold_items) == (60, 20, 30)
    assert [(g.targets, g.candidates, g.cases) for g in found.groups] == [
        ("warm", "all", 40),
        ("cold", "all", 20),
        ("cold", "cold", 20),
    ]


def test_figures_by_hand(found: WarmCold) -> None:
    warm, cold = TARGETS[:WARM], TARGETS[WARM:]
    # With the new items first a warm target is behind all 30 of them, and a cold one is in the first 20 from item 40.
    assert value(found, "warm", "all", "new first", "kept", "recall@20") == 0
    assert value(found, "cold", "all", "new first", "kept", "recall@20") == pytest.approx((cold >= 40).mean())
    assert value(found, "warm", "all", "new last", "kept", "recall@20") == pytest.approx((warm >= 10).mean())
    assert value(found, "cold", "all", "new last", "kept", "recall@20") == 0
    for scorer in ("new first", "new last"):  # among themselves the new items stand in the same order
        assert value(found, "cold", "cold", scorer, "excluded", "recall@20") == pytest.approx((cold >= 40).mean())
        auc = ((cold - 30) / 29).mean()
        assert value(found, "cold", "cold", scorer, "excluded", "auc") == pytest.approx(auc)


def test_warm_and_cold_add_up_to_all(made: EvaluationReport, found: WarmCold) -> None:
    for result in made.results:
        for metric, whole in result.metrics.items():
            parts = [value(found, kind, "all", result.scorer, result.seen, metric) for kind in ("warm", "cold")]
            assert whole.value == pytest.approx((WARM * parts[0] + COLD * parts[1]) / 60)


def test_differences_are_paired_within_the_group(found: WarmCold) -> None:
    group = found.group("cold", "cold")
    assert group is not None
    assert group.results[0].differences is None
    differences = group.results[1].differences
    assert differences is not None
    # They are equal for each user, so whoever is drawn.
    assert (differences["auc"].low, differences["auc"].high) == pytest.approx((0, 0), abs=1e-12)


def test_the_harmonic_mean_needs_both() -> None:
    class Half(Prefers):
        """Warm targets first for every second user, cold targets for all."""

        def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
            scores = np.zeros((len(users), N_ITEMS), np.float32)
            hit = (users % 2 == 0) | (users >= WARM)
            scores[np.arange(len(users)), TARGETS[users]] = np.where(hit, 1, -1)
            return scores

    scorers = [Half("half", 0), Prefers("new first", 0)]
    made = evaluate(
        EventSequences.leave_one_out(USERS), scorers, n_items=N_ITEMS, split=Split.TEST, seed=0, resamples=300
    )
    assert made.warm_cold is not None
    half, first = (each.harmonic_mean for each in made.warm_cold.balance if each.seen == "excluded")
    assert half.value == pytest.approx(2 * 0.5 * 1 / 1.5)
    # The share of even users among 40 drawn varies by 0.079, and 2w/(w + 1) rises by 2/2.25 of that.
    assert half.high - half.low == pytest.approx(2 * 1.96 * 0.079 * 2 / 2.25, rel=0.2)
    assert first.value == first.low == first.high == 0  # no warm target is found, however many cold ones are


def test_only_cold_targets() -> None:
    made = report([[u % 30, (u + 1) % 30, (u + 2) % 30, 30 + u] for u in range(30)])
    assert made.warm_cold is not None
    assert [(g.targets, g.candidates) for g in made.warm_cold.groups] == [("cold", "all"), ("cold", "cold")]
    assert made.warm_cold.balance == ()
    text = report_markdown(made)
    assert "0 targets with training events and 30 without" in text
    assert re.search(rf"\| new first \(kept\) \| 0.6667 \[\S+ \S+\] \| {NONE} \| 0.6667 \[\S+ \S+\] \| {NONE} \|", text)


def test_without_cold_targets_nothing_is_shown() -> None:
    made = report([[u % 30, (u + 1) % 30, (u + 2) % 30, (u + 3) % 30] for u in range(30)])
    assert made.warm_cold is None
    assert "cold" not in report_markdown(made)


def test_tables(made: EvaluationReport) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(report_tables(made))
    text = console.export_text()
    assert "…" not in text
    assert "Warm and cold: Recall@20 of 40 targets with training events and 20 without" in text
    markdown = report_markdown(made)
    for title in (
        "### Test, 40 warm targets among all items, seen items kept",
        "### Test, 20 cold targets among all items, seen items excluded",
        "### Test, 20 cold targets among the 30 cold items, seen items excluded",
    ):
        assert title in markdown
    assert "among the 30 cold items, seen items kept" not in markdown


def test_json(made: EvaluationReport) -> None:
    document = json.loads(json.dumps(made.to_dict()))["warm_cold"]
    assert document["cold_items"] == 30
    assert document["groups"][2]["results"][0]["metrics"]["auc"]["value"] > 0
    assert [(each["scorer"], each["seen"]) for each in document["balance"]] == [
        (scorer, seen) for scorer in ("new first", "new last") for seen in ("kept", "excluded")
    ]
    assert json.dumps(made.to_dict()) == json.dumps(report().to_dict())
