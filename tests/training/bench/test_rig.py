"""A rig does the steps of `rf train`, and its clocks and counts are right."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rf_bench.train.benchmark import unsharded, with_sharded_ids
from rf_bench.train.processes import launch
from rf_bench.train.rig import PARTS, Rig, Tables
from rf_bench.train.worker import RigPlan, WorkPlan, work
from rf_platform.dataset import Dataset
from rf_platform.dataset.memory import memory_report
from rf_training.config import Recipe, ShardingConfig, TrainConfig
from rf_training.distributed.process_group import World
from rf_training.model.config import ModelConfig

RECIPE = Recipe(
    name="tiny",
    model=ModelConfig(dim=16, max_history=6, fusion="mean"),
    train=TrainConfig(batch_size=8, uniform_negatives=10, ema_decay=0.5),
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_what_is_compared_with_plain_tables_has_whole_ones(dataset: Dataset) -> None:
    """Also where the recipe, or the size of a table, would have it spread."""
    recipe = replace(RECIPE, sharding=ShardingConfig(domains={"item_id": "table_wise"}, threshold_rows=2))
    assert not Rig(dataset, recipe, World()).parallel.whole
    assert Rig(dataset, unsharded(recipe), World(), tables="plain").parallel.whole


@pytest.mark.parametrize("tables", ["torchrec", "plain"])
def test_it_trains_and_accounts_for_its_time(dataset: Dataset, tables: Tables) -> None:
    rig = Rig(dataset, RECIPE, World(), tables=tables)
    before = {name: p.detach().clone() for name, p in rig.model.named_parameters()}
    steps = rig.loader.steps(0)
    timing = rig.run(steps)
    assert 0 < timing.parts["forward"] < timing.wall
    assert 0.9 * timing.wall < sum(timing.parts.values()) <= timing.wall
    assert timing.cpu <= 1.2 * timing.wall  # one thread
    assert timing.events == dataset.manifest["counts"]["train"]  # every event is the target once in an epoch
    assert sum(not torch.equal(p, before[name]) for name, p in rig.model.named_parameters()) > 10


def test_memory_is_what_the_arithmetic_says(dataset: Dataset) -> None:
    """Weights and optimiser state, counted on the tensors after a step, of AdamW and of row-wise Adagrad in the backward pass."""
    counts = dataset.manifest["counts"]
    report = memory_report(dataset.spec, dataset.manifest["vocabularies"], items=counts["items"], dim=16)
    expected = {f"domain_{t.domain}": t.to_dict()["shared"] for t in report.with_item_id}
    for recipe in (RECIPE, with_sharded_ids(RECIPE)):
        rig = Rig(dataset, recipe, World())
        rig.run(1)
        measured = {t["table"]: t for t in rig.table_bytes()}
        assert measured.keys() == expected.keys()
        for name, table in measured.items():
            fused = recipe is not RECIPE and name == "domain_item_id"
            state = "rowwise_adagrad_state_bytes" if fused else "adamw_state_bytes"
            assert (table["weights"], table["state"]) == (expected[name]["weights_bytes"], expected[name][state]), name


def test_the_exact_softmax_is_over_the_whole_catalog(dataset: Dataset) -> None:
    full = replace(RECIPE, train=replace(RECIPE.train, objective="full", ema_decay=0.0))
    rig = Rig(dataset, full, World(), whole_catalog=True)
    assert next(rig.loader.epoch(0)).candidates == dataset.n_items
    assert rig.run(1).steps == 1


def test_two_processes_share_the_work_and_tell_what_they_exchange(dataset: Dataset) -> None:
    """The same steps as one process, in two; collectives take a part of the forward and the backward pass."""
    plan = WorkPlan(
        dataset=Path(dataset.path),
        rigs=(RigPlan(name="a", recipe=with_sharded_ids(RECIPE)),),
        rounds=2,
        steps=3,
        warmup=1,
        profiled=2,
        threads=1,
    )
    assert WorkPlan.from_json(plan.to_json()) == plan
    found = work(plan, World())
    assert found is not None
    alone, together = found["ranks"], launch(plan, 2)
    assert [len(alone), len(together)] == [1, 2]
    for name in ("sequences", "events"):
        shared = [sum(rank["rounds"]["a"][i][name] for rank in together) for i in range(2)]
        assert shared == [alone[0]["rounds"]["a"][i][name] for i in range(2)]
    for rank in together:
        assert 0 < rank["communication"]["a"]["forward"] < 1
        assert 0 < rank["communication"]["a"]["backward"] <= 1
        assert rank["peak_bytes"] > 1 << 20
    ids = [t for rank in together for t in rank["tables"]["a"] if t["table"] == "domain_item_id"]
    assert sum(t["weights"] for t in ids) == alone[0]["tables"]["a"][-1]["weights"]
    assert set(PARTS) == set(together[0]["communication"]["a"])
