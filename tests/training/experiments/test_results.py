"""Figures of an ablation, from ranks whose metrics are easily told by hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rf_training.config import Recipe
from rf_training.evaluation import EvaluationCases, EventSequences, Split, TargetRanks
from rf_training.experiments.chart import draw
from rf_training.experiments.grid import Group
from rf_training.experiments.plan import Plan
from rf_training.experiments.results import AblationResult, Measured, build_result
from rf_training.experiments.runs import Cost, measured, read_cost
from rf_training.experiments.tables import csv_text, markdown

GROUP = Group(name="width", title="Width", variants={"16": {"model.dim": "16"}, "32": {"model.dim": "32"}})
PLAN = Plan(
    name="hand", dataset="tiny", fingerprint="f", recipe=Recipe(name="base"), seeds=(0, 1), groups={"width": GROUP}
)
HIT, MISS = 1, 1000


def cases(cold: bool = False) -> EvaluationCases:
    """Four users; with ``cold`` the last two have targets without a training event."""
    users = [[0, 1, 2, 0], [1, 0, 2, 1], [0, 1, 2, 3], [1, 0, 2, 4]] if cold else [[0, 1, 2, 0], [1, 2, 0, 1]] * 2
    return EvaluationCases.from_sequences(EventSequences.leave_one_out(users), n_items=2000, split=Split.TEST)


def run(*ranks: int, seconds: float = 2.0) -> Measured:
    cost = Cost(cpu_seconds=seconds, wall_seconds=seconds / 2)
    place, among = np.array(ranks), np.full(len(ranks), 2000)
    cold = np.array([0, 0, 3, 30])  # ranks of the cold targets among cold items
    found = TargetRanks(
        kept=place, excluded=place, among_cold=cold, n_kept=among, n_excluded=among, n_among_cold=among * (cold > 0)
    )
    return Measured(run="r", ranks=found, parameters=12345, best_epoch=3, cost=cost)


def result(by_arm: dict[str, list[Measured]], *, cold: bool = False, plan: Plan = PLAN) -> AblationResult:
    runs = {
        cell.name: run
        for name, found in by_arm.items()
        for cell, run in zip(plan.arm_cells(GROUP)[name], found, strict=False)
    }
    return build_result(plan, cases(cold), runs, {})


def test_seeds_are_averaged_and_their_spread_shown() -> None:
    found = result(
        {
            "64": [run(HIT, MISS, MISS, MISS, seconds=1), run(HIT, HIT, HIT, MISS, seconds=3)],  # recall .25 and .75
            "16": [run(HIT, HIT, HIT, HIT), run(HIT, HIT, MISS, MISS)],  # 1 and .5
        }
    )
    (group,) = found.groups
    narrow, wide, base = group.arms
    assert (narrow.name, wide.name, base.name, base.base) == ("16", "32", "64", True)
    score = base.targets["all"]["recall@20"]
    assert (score.value, score.difference) == (0.5, None)
    assert score.spread == pytest.approx(np.std([0.25, 0.75], ddof=1))
    assert (base.cpu_seconds, base.wall_seconds, base.parameters, base.best_epoch) == (2.0, 1.0, 12345, 3.0)
    difference = narrow.targets["all"]["recall@20"].difference
    assert difference is not None
    assert difference.value == pytest.approx(0.25)
    assert difference.low <= 0 < difference.high  # by user: 0, .5, 0, .5 on average over the seeds
    assert wide.targets == {}


def test_a_difference_uses_only_the_seeds_that_both_have() -> None:
    found = result({"64": [run(HIT, HIT, MISS, MISS)], "16": [run(HIT, HIT, HIT, HIT), run(MISS, MISS, MISS, MISS)]})
    narrow = found.groups[0].arms[0].targets["all"]["recall@20"]
    assert narrow.value == 0.5
    assert narrow.difference is not None
    assert narrow.difference.value == 0.5
    base = found.groups[0].arms[2]
    assert base.targets["all"]["recall@20"].spread is None
    assert "**64 (base)** | 0.5000 |" in markdown(found)


def test_without_the_base_there_is_no_difference() -> None:
    found = result({"16": [run(HIT, HIT, HIT, HIT)]})
    assert found.groups[0].arms[0].targets["all"]["ndcg@20"].difference is None


def test_warm_and_cold_targets_side_by_side(tmp_path: Path) -> None:
    found = result(
        {"64": [run(HIT, HIT, MISS, MISS)], "16": [run(MISS, MISS, HIT, HIT)]},
        cold=True,
        plan=replace(PLAN, seeds=(0,)),
    )
    assert found.cases == {"all": 4, "warm": 2, "cold": 2, "among cold": 2}
    narrow = found.groups[0].arms[0].targets
    assert {kind: scores["recall@20"].value for kind, scores in narrow.items()} == {
        "all": 0.5,
        "warm": 0.0,
        "cold": 1.0,
        "among cold": 0.5,
    }
    differences = [narrow[kind]["recall@20"].difference for kind in ("warm", "cold")]
    assert [d.value for d in differences if d] == [-1.0, 1.0]
    text = markdown(found)
    assert "2 with a warm target, 2 with a cold one" in text
    assert "| Recall@20 all | NDCG@20 all | Recall@20 warm | NDCG@20 warm | Δ NDCG@20 warm | Recall@20 cold |" in text
    assert [line.split(",")[4] for line in csv_text(found).splitlines()[1:5]] == ["all", "warm", "cold", "among cold"]
    svg = draw(found, tmp_path / "plot.png")[1].read_text()
    assert ">Width, warm targets</text>" in svg
    assert ">Width, cold targets</text>" in svg
    assert ">not trained</text>" in svg


def test_only_settled_differences_have_a_star() -> None:
    ranks = {"64": [run(MISS, MISS, MISS, MISS)], "16": [run(HIT, HIT, HIT, HIT)], "32": [run(HIT, MISS, MISS, MISS)]}
    text = markdown(result(ranks, plan=replace(PLAN, seeds=(0,))))
    assert "| 16 | 1.0000 | 1.0000 | 1.0000 | 1.0000 | +1.0000* [+1.0000, +1.0000] | 2.0 | 1.0 | 12,345 |" in text
    assert "+0.2500 [+0.0000, " in text


def test_an_epochs_cost_is_that_of_all_sittings(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    assert read_cost(tmp_path) is None
    with measured(tmp_path):
        pass
    assert read_cost(tmp_path) is None  # no epoch, no cost of one
    with pytest.raises(KeyboardInterrupt):
        interrupted(history)
    with measured(tmp_path):
        history.write_text("{}\n" * 4)
        sum(i * i for i in range(3_000_000))
    cost = read_cost(tmp_path)
    assert cost is not None
    assert 0.005 < cost.cpu_seconds < 5
    assert cost.wall_seconds > 0.005
    sittings = [json.loads(line) for line in (tmp_path / "cost.jsonl").read_text().splitlines()]
    assert [sitting["epochs"] for sitting in sittings] == [0, 1, 3]
    assert cost.cpu_seconds == pytest.approx(sum(sitting["cpu_seconds"] for sitting in sittings) / 4)
    assert cost.wall_seconds == pytest.approx(sum(sitting["wall_seconds"] for sitting in sittings) / 4)


def interrupted(history: Path) -> None:
    with measured(history.parent):
        history.write_text("{}\n")
        raise KeyboardInterrupt
