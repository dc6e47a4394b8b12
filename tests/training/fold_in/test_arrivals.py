"""The arrival curve: which events it may know, and that it ranks as the evaluation does."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rf_platform.dataset import Dataset
from rf_platform.dataset.protocols import ColdItems, LeaveOneOut, SplitProtocol
from rf_platform.errors import DataError
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.ranking import rank_targets
from rf_training.evaluation.sequences import Split
from rf_training.fold_in.arrivals import arrival_curve
from rf_training.fold_in.first_events import read_first_events
from rf_training.fold_in.rule import MOST_USERS
from rf_training.model.config import ModelConfig
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model_scorer import ModelScorer

Build = Callable[[Path, SplitProtocol], Dataset]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, write_tables: Callable[..., None]) -> Path:
    home = tmp_path_factory.mktemp("arrivals")
    write_tables(home / "tables", users=60)
    return home


@pytest.fixture(scope="module")
def with_cold(home: Path, build_by_protocol: Build) -> Dataset:
    return build_by_protocol(home, ColdItems(cold_share=0.3, validation_cold_share=0.1, seed=1))


@pytest.fixture(scope="module")
def scorer(with_cold: Dataset) -> ModelScorer:
    torch.manual_seed(0)
    model = RetrievalFormer(ModelConfig(dim=16, max_history=6), with_cold.encoder).eval()
    model.cold_shift.fill_(0.05)
    return ModelScorer(model, with_cold)


def tables(home: Path) -> Path:
    return home / "tables" / "interactions.parquet"


def log_of(home: Path) -> list[tuple[int, int, int]]:
    """All events as (time, user, item), by hand."""
    table = pq.read_table(tables(home))
    times = table["event_timestamp"].cast(pa.int64()).to_pylist()
    return sorted(zip(times, table["user_id"].to_pylist(), table["item_id"].to_pylist(), strict=True))


def test_in_time_order_the_events_are_the_first_ones_and_their_users_known(home: Path, with_cold: Dataset) -> None:
    events = read_first_events(with_cold, tables(home), clock=True, seed=0)
    log, cold = log_of(home), set(with_cold.item_ids[~with_cold.trained_items].tolist())
    sequences = with_cold.sequences
    assert set(with_cold.item_ids[events.item].tolist()) <= cold
    for item in np.unique(events.item):
        mine = events.item == item
        expected = []
        for when, user, each in log:
            row = int(np.searchsorted(with_cold.user_ids, user))
            own = np.asarray(sequences.timestamp[sequences.offsets[row] : sequences.offsets[row + 1]])
            before = int((own < when).sum())  # counted by hand: what the dataset has of the user until then
            if each == with_cold.item_ids[item] and before:
                expected.append((when, user, before))
        found = zip(events.timestamp[mine], with_cold.user_ids[events.user[mine]], events.length[mine], strict=True)
        assert [(int(t), int(u), int(n)) for t, u, n in found] == expected[:MOST_USERS]
        assert events.place[mine].tolist() == list(range(mine.sum()))


def test_without_a_clock_no_target_is_told_and_no_history_reaches_beyond_training(
    home: Path, with_cold: Dataset
) -> None:
    one, same, other = (read_first_events(with_cold, tables(home), clock=False, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one.user, same.user)
    assert not np.array_equal(one.user, other.user)
    sequences = with_cold.sequences
    held = np.flatnonzero(np.isin(sequences.split, (Split.VALIDATION, Split.TEST)))
    owner = np.searchsorted(sequences.offsets, held, side="right") - 1
    targets = set(zip(owner.tolist(), np.asarray(sequences.item[held]).tolist(), strict=True))
    assert not targets & set(zip(one.user.tolist(), one.item.tolist(), strict=True))
    assert any(not with_cold.trained_items[item] for _, item in targets)
    assert (one.length <= with_cold.training_counts.of_user[one.user]).all()


def test_a_user_counts_once_for_an_item(home: Path, with_cold: Dataset, tmp_path: Path) -> None:
    table = pq.read_table(tables(home))
    pq.write_table(pa.concat_tables([table, table, table]), tmp_path / "interactions.parquet")
    once = read_first_events(with_cold, tables(home), clock=True, seed=0)
    thrice = read_first_events(with_cold, tmp_path / "interactions.parquet", clock=True, seed=0)
    assert np.array_equal(once.user, thrice.user)
    assert np.array_equal(once.item, thrice.item)


@pytest.mark.parametrize("clock", [True, False])
def test_without_events_the_curve_is_the_evaluation(
    home: Path, with_cold: Dataset, scorer: ModelScorer, clock: bool
) -> None:
    events = read_first_events(with_cold, tables(home), clock=clock, seed=0)
    curve = arrival_curve(
        scorer, with_cold, events, temperature=0.1, split=Split.TEST, seed=0, resamples=20, steps=(0, 5)
    )
    cases = EvaluationCases.from_sequences(
        with_cold.sequences, n_items=with_cold.n_items, split=Split.TEST, trained=with_cold.trained_items
    )
    ranks = rank_targets(scorer, cases, seed=0)
    row = curve.rows[0]
    assert (row.events, row.known) == (0, 0)
    assert row.warm is not None
    # Ties of items with equal content fall otherwise: one case more or less.
    for found, expected in (
        (row.warm, ranks.excluded[~cases.cold] <= 20),
        (row.cold, ranks.excluded[cases.cold] <= 20),
        (row.among_cold, ranks.among_cold[cases.cold] <= 20),
    ):
        assert abs(found.value - expected.mean()) <= 1.01 / len(expected)
    assert 0 < curve.rows[1].known <= 5


def test_what_comes_after_a_target_does_not_reach_it(
    home: Path, with_cold: Dataset, scorer: ModelScorer, tmp_path: Path
) -> None:
    """Events behind the last target of all are nobody's business: with them in the tables the curve is the same."""
    table = pq.read_table(tables(home))
    late = table.slice(0, 40)
    last = max(table["event_timestamp"].to_pylist())
    late = late.set_column(
        late.column_names.index("event_timestamp"),
        "event_timestamp",
        pa.array([last] * 40, table["event_timestamp"].type),
    ).set_column(late.column_names.index("user_id"), "user_id", pa.array(list(range(1, 41))))
    cold = with_cold.item_ids[~with_cold.trained_items]
    late = late.set_column(
        late.column_names.index("item_id"), "item_id", pa.array([int(cold[n % len(cold)]) for n in range(40)])
    )
    pq.write_table(pa.concat_tables([table, late]), tmp_path / "interactions.parquet")

    def curve(path: Path) -> object:
        events = read_first_events(with_cold, path, clock=True, seed=0)
        return arrival_curve(
            scorer, with_cold, events, temperature=0.1, split=Split.TEST, seed=0, resamples=20, steps=(0, 1, 50)
        )

    assert len(read_first_events(with_cold, tmp_path / "interactions.parquet", clock=True, seed=0)) > len(
        read_first_events(with_cold, tables(home), clock=True, seed=0)
    )
    assert curve(tmp_path / "interactions.parquet") == curve(tables(home))


def test_a_dataset_without_cold_items_is_refused(
    tmp_path: Path, write_tables: Callable[..., None], build_by_protocol: Build
) -> None:
    write_tables(tmp_path / "tables", users=60)
    dataset = build_by_protocol(tmp_path, LeaveOneOut())
    assert dataset.trained_items.all()
    with pytest.raises(DataError, match="cold-items"):
        read_first_events(dataset, tables(tmp_path), clock=True, seed=0)
