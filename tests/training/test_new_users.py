"""Temporal splits at their edges: whole blocks of users who are new, and parts in which nothing happens."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rf_platform.dataset import Dataset
from rf_platform.dataset.protocols import SplitProtocol, Temporal
from rf_platform.errors import RunError
from rf_training.config import Recipe, TrainConfig
from rf_training.evaluation import EvaluationCases, Split, evaluate
from rf_training.model.config import ModelConfig
from rf_training.model.storage import load_model
from rf_training.model_scorer import USERS_AT_ONCE, ModelScorer
from rf_training.trainer import Trainer

OLD, NEW = 20, 2 * (USERS_AT_ONCE + 6)
START = datetime(2024, 1, 1, tzinfo=UTC)
RECIPE = Recipe(
    name="tiny",
    model=ModelConfig(dim=16, max_history=6),
    train=TrainConfig(epochs=1, batch_size=16, uniform_negatives=10),
)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


@pytest.fixture(scope="module")
def build(
    tmp_path_factory: pytest.TempPathFactory,
    write_tables: Callable[..., None],
    build_by_protocol: Callable[[Path, SplitProtocol], Dataset],
) -> Callable[[SplitProtocol], Dataset]:
    """Build by a protocol: old users in the first ten days, then half of the new ones in five days, then the other half."""
    tables = tmp_path_factory.mktemp("growing") / "tables"
    write_tables(tables, users=OLD + NEW)
    log = pq.read_table(tables / "interactions.parquet")
    user, order = log["user_id"].to_numpy(), log["input_order"].to_numpy() % 12
    later = np.where(user <= OLD, 0, np.where(user <= OLD + NEW // 2, 10, 15))
    days = np.where(user <= OLD, order * 0.8, later + user / (OLD + NEW) + order)
    kept = (user <= OLD) | (order < 2)
    times = pa.array([day(each) for each in days.tolist()], log.schema.field("event_timestamp").type)
    log = log.set_column(log.column_names.index("event_timestamp"), "event_timestamp", times).filter(pa.array(kept))
    pq.write_table(log, tables / "interactions.parquet")
    return lambda protocol: build_by_protocol(tables.parent, protocol)


def trained(dataset: Dataset, directory: Path) -> ModelScorer:
    torch.set_num_threads(1)
    Trainer(RECIPE, dataset, directory).run()
    return ModelScorer(load_model(directory / "best", dataset.encoder), dataset)


def test_parts_of_new_users_alone_are_trained_validated_and_evaluated(
    build: Callable[[SplitProtocol], Dataset], tmp_path: Path
) -> None:
    dataset = build(Temporal(validation_cut=day(10), test_cut=day(15)))
    cases = EvaluationCases.from_sequences(dataset.sequences, n_items=dataset.n_items, split=Split.TEST)
    assert len(cases) == NEW // 2 > USERS_AT_ONCE
    assert (cases.stops == cases.starts).all()
    scorer = trained(dataset, tmp_path)
    report = evaluate(
        dataset.sequences,
        [scorer],
        n_items=dataset.n_items,
        split=Split.TEST,
        seed=0,
        resamples=10,
        trained=dataset.trained_items,
    )
    assert report.cases == NEW // 2
    scores = scorer.scores(cases.users, cases.histories(0, len(cases)))
    ahead = (scores > np.take_along_axis(scores, cases.targets[:, None], axis=1)).sum(axis=1)
    for result in report.results:
        assert result.metrics["recall@20"].value == pytest.approx((ahead < 20).mean())
    (group,) = report.segments.history
    assert group.name.startswith("new users")


def test_a_part_in_which_nothing_happens_is_named(build: Callable[[SplitProtocol], Dataset], tmp_path: Path) -> None:
    nothing_to_test = build(Temporal(validation_cut=day(10), test_cut=day(99)))
    scorer = trained(nothing_to_test, tmp_path / "trains")
    with pytest.raises(RunError, match=r"no event is marked test, although .*rf dataset show"):
        evaluate(
            nothing_to_test.sequences, [scorer], n_items=nothing_to_test.n_items, split=Split.TEST, seed=0, resamples=10
        )
    nothing_to_validate = build(Temporal(validation_cut=day(9.5), test_cut=day(9.9)))
    with pytest.raises(RunError, match=r"no event is marked validation, although .*rf dataset show"):
        Trainer(RECIPE, nothing_to_validate, tmp_path / "refused").run()
