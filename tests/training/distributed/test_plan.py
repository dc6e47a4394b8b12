"""Where tables go: by size, by name, and what is refused with a remedy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rf_platform.dataset import Dataset
from rf_platform.errors import ConfigError
from rf_training.config import Recipe, ShardingConfig, TrainConfig
from rf_training.distributed.plan import TablePlan, plan_table, sharded_domains
from rf_training.distributed.tables import initialise
from rf_training.model.config import ModelConfig
from rf_training.recipes import override
from rf_training.trainer import Trainer

RECIPE = Recipe(name="tiny", model=ModelConfig(dim=16, max_history=6), train=TrainConfig(batch_size=8))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def trainer(dataset: Dataset, directory: Path, model: dict[str, Any] | None = None, **sharding: Any) -> Trainer:
    recipe = replace(RECIPE, model=replace(RECIPE.model, **(model or {})), sharding=ShardingConfig(**sharding))
    return Trainer(recipe, dataset, directory)


def plan(made: Trainer) -> dict[str, TablePlan]:
    return {t.table: t for t in made.parallel.plan}


def test_small_domains_are_data_parallel_and_large_ones_are_the_planners(dataset: Dataset, tmp_path: Path) -> None:
    rows = {name: v.rows for name, v in dataset.encoder.vocabularies.items()}
    assert sharded_domains(ShardingConfig(), dataset.encoder) == frozenset()
    large = {name for name, count in rows.items() if count >= 20}
    assert {"item_id"} <= large < set(rows)
    assert sharded_domains(ShardingConfig(threshold_rows=20), dataset.encoder) == large
    tables = plan(trainer(dataset, tmp_path, threshold_rows=20))
    for name, table in tables.items():
        spread = name in large
        assert table.sharding == ("table_wise" if spread else "data_parallel")
        assert table.optimizer == ("row-wise Adagrad" if spread else "AdamW")
        assert (table.rows, table.weight_bytes) == (rows[name], rows[name] * 16 * 4)
        assert table.state_bytes == (rows[name] * 4 if spread else 3 * table.weight_bytes)


def test_a_name_decides_either_way(dataset: Dataset, tmp_path: Path) -> None:
    domains = {"item_id": "data_parallel", "gender": "table_wise", "genre": "column_wise"}
    tables = plan(trainer(dataset, tmp_path, domains=domains, threshold_rows=20, column_width=8))
    assert {name: tables[name].sharding for name in domains} == domains
    assert tables["genre"].state_bytes == tables["genre"].rows * 4 * 2  # two parts, a number each
    shown = plan_table(list(tables.values()), 1)
    assert shown.row_count == len(tables)


def test_settings_name_single_domains() -> None:
    made = override(RECIPE, ["sharding.domains.item_id=table_wise", "sharding.domains.genre=data_parallel"])
    assert made.sharding.domains == {"item_id": "table_wise", "genre": "data_parallel"}
    assert override(made, ["sharding.domains.genre=column_wise"]).sharding.domains["item_id"] == "table_wise"


@pytest.mark.parametrize(
    ("sharding", "model", "message"),
    [
        ({"domains": {"item_id": "row_wise"}}, {}, r"item_id=row_wise: .*GPUs only; use table_wise or column_wise"),
        ({"domains": {"item_id": "column_wise"}}, {}, r"16 wide has no two parts of .*=32 columns; set that to 8"),
        ({"domains": {"item_id": "table_wise"}, "optimizer": "adam"}, {}, r"adam: .* CPUs; use rowwise_adagrad"),
        ({"domains": {"itemid": "table_wise"}}, {}, r"domains\.itemid: .*did you mean item_id\?"),
        ({"domains": {"genre": "table_wise"}}, {"bag_pooling": "attention"}, r"attention .*genre=data_parallel"),
        ({"domains": {"genre": "table_wise"}}, {"feature_dim": 6}, r"'genre' is 6 wide.*multiple of 4"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(
    sharding: dict[str, Any], model: dict[str, Any], message: str, dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        trainer(dataset, tmp_path, model, **sharding)


@pytest.mark.parametrize(
    ("sharding", "message"),
    [
        (
            {"domains": {"genre": "sideways"}},
            r"sharding\.domains\.genre='sideways' must be 'data_parallel', 'table_wise'",
        ),
        ({"threshold_rows": 0}, r"threshold_rows=0"),
        ({"column_width": 6}, r"column_width=6 must be a multiple of 4"),
        ({"learning_rate": -1.0}, r"learning_rate=-1\.0 must be positive"),
        ({"optimizer": "sgd"}, r"optimizer='sgd' must be 'rowwise_adagrad' or 'adam'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(sharding: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ShardingConfig(**sharding)


def test_first_weights_do_not_depend_on_how_a_table_is_cut(dataset: Dataset, tmp_path: Path) -> None:
    one = trainer(dataset, tmp_path, domains={"item_id": "table_wise"})
    two = trainer(dataset, tmp_path, domains={"item_id": "column_wise"}, column_width=8)
    first, second = one.parallel.full_state(), two.parallel.full_state()
    assert first is not None
    assert second is not None
    for name in one.parallel.tables:
        assert torch.equal(first[name], second[name])
        assert 0.015 < float(first[name].std()) < 0.025
    initialise(two.parallel.tables, seed=1)
    other = two.parallel.full_state()
    assert other is not None
    assert not any(torch.equal(first[name], other[name]) for name in one.parallel.tables)


def test_a_sharded_table_learns_at_its_own_rate(dataset: Dataset, tmp_path: Path) -> None:
    """Row-wise Adagrad's first step moves the rows of a batch by about the learning rate, and no other row."""
    made = trainer(dataset, tmp_path, domains={"item_id": "table_wise"}, learning_rate=0.25)
    (name,) = made.parallel.tables
    made.recipe = replace(made.recipe, train=replace(made.recipe.train, clip_norm=1e-6))
    before = made.parallel.full_state()
    assert before is not None
    made.step(next(iter(made.loader.epoch(0))))
    after = made.parallel.full_state()
    assert after is not None
    moved = (after[name] - before[name]).square().mean(1).sqrt()
    rate = 0.25 * made.schedule.at(0) / made.recipe.train.learning_rate
    touched = moved > 0
    assert not touched[0]  # padding
    torch.testing.assert_close(moved[touched], torch.full_like(moved[touched], rate), rtol=1e-2, atol=0.0)
