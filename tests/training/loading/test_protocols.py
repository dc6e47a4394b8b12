"""No cold item and no event after a cut touches training: vocabularies, statistics, histories, targets, negatives, counts.

Everything that training must not see is poisoned with values that occur nowhere else; then nothing learned and no batch may
differ from what the clean tables give.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from rf_platform.dataset import Dataset
from rf_platform.dataset.protocols import (
    TEST,
    TRAIN,
    VALIDATION,
    ColdItems,
    LeaveOneOut,
    LeaveOneOutCold,
    SplitProtocol,
    Temporal,
)
from rf_platform.features.vocabulary import UNKNOWN_ID
from rf_training.baselines.item_knn import ItemKNN
from rf_training.baselines.popularity import Popularity
from rf_training.baselines.recency import Recency
from rf_training.baselines.training_data import TrainingData
from rf_training.config import Recipe, TrainConfig
from rf_training.evaluation import EvaluationCases, Jagged, Split
from rf_training.loading.batches import Batch, BatchLoader
from rf_training.model.config import ModelConfig

PROTOCOLS: tuple[SplitProtocol, ...] = (
    LeaveOneOut(),
    LeaveOneOutCold(cold_users=4, validation_cold_users=2, seed=1),
    ColdItems(),
    Temporal(validation_cut=0.6, test_cut=0.8),
    Temporal(validation_cut=0.4, test_cut=0.6, new_items_only=True),
)


class Pair(NamedTuple):
    """The same events twice."""

    clean: Dataset
    poisoned: Dataset


@pytest.fixture(scope="module", params=PROTOCOLS, ids=lambda p: f"{p.name}{'-new' if '=True' in repr(p) else ''}")
def pair(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    write_tables: Callable[..., None],
    poison_tables: Callable[[Path, SplitProtocol], None],
    build_by_protocol: Callable[[Path, SplitProtocol], Dataset],
) -> Pair:
    """Datasets in which some items are rare, so that every protocol has warm and cold targets."""
    built = []
    for poisoned in (False, True):
        home = tmp_path_factory.mktemp("protocol")
        write_tables(home / "tables", users=30, items=80, events=9)
        if poisoned:
            poison_tables(home / "tables", request.param)
        built.append(build_by_protocol(home, request.param))
    return Pair(*built)


def batches(dataset: Dataset, objective: Literal["sampled", "full"]) -> list[Batch]:
    train = TrainConfig(batch_size=6, uniform_negatives=30, seed=3, objective=objective)
    return list(BatchLoader(dataset, Recipe(name="t", model=ModelConfig(max_history=4), train=train)).epoch(0))


def test_the_poison_is_in_the_data_and_the_events_are_the_same(pair: Pair) -> None:
    """Without it the other tests would prove nothing."""
    assert pair.poisoned.fingerprint != pair.clean.fingerprint
    for name in ("offsets", "item", "timestamp", "split"):
        assert np.array_equal(getattr(pair.clean.sequences, name), getattr(pair.poisoned.sequences, name)), name
    split = np.asarray(pair.clean.sequences.split)
    assert (split == VALIDATION).any()
    assert (split == TEST).any()
    ratings = pair.poisoned.sequences.context_numbers[:, 0]
    assert np.array_equal(ratings == 1e6, split != TRAIN)
    newest = pair.poisoned.items.take(pair.poisoned.current_items)
    assert set(newest["items__release_year"].to_pylist()) == {9999}


def test_vocabularies_and_statistics_do_not_notice(pair: Pair) -> None:
    files = sorted(p.name for p in (pair.clean.path / "encoder").iterdir())
    for name in files:
        mine, theirs = (d.path / "encoder" / name for d in pair)
        if name.endswith(".json"):
            assert mine.read_text() == theirs.read_text()
        else:
            assert pq.read_table(mine).equals(pq.read_table(theirs)), name
    for dataset in pair:
        known = dataset.encoder.vocabularies["item_id"].values.to_pylist()
        assert sorted(known) == dataset.item_ids[dataset.trained_items].tolist()
        assert dataset.manifest["counts"]["items_in_training"] == len(known)


def test_what_is_known_of_items_in_training_does_not_notice(pair: Pair) -> None:
    """The states that negatives are encoded with, and in which trained items are evaluated."""
    states = [d.items.take(d.evaluation_items[d.trained_items]).to_pylist() for d in pair]
    names = ("item_id", "items__genres", "items__release_year")
    assert [[r[n] for n in names] for r in states[0]] == [[r[n] for n in names] for r in states[1]]


def test_training_events_see_no_later_state_of_items_and_users(pair: Pair) -> None:
    dataset = pair.poisoned
    years, ages = dataset.items["items__release_year"].to_numpy(), dataset.users["users__age_group"].to_numpy()
    train = np.asarray(dataset.sequences.split) == TRAIN
    assert not (years[dataset.sequences.item_version[train]] == 9999).any()
    assert not (ages[dataset.sequences.user_version[train]] == 9999).any()
    assert (ages[dataset.sequences.user_version[~train]] == 9999).any()  # those held out see it


@pytest.mark.parametrize("objective", ["sampled", "full"])
def test_batches_do_not_notice(pair: Pair, objective: Literal["sampled", "full"]) -> None:
    """Histories, targets, negatives, contexts and profiles of an epoch hold nothing that the vocabularies do not know."""
    made = [batches(d, objective) for d in pair]
    assert len(made[0]) == len(made[1]) > 3
    for clean, poisoned in zip(*made, strict=True):
        for side in ("item", "context", "user"):
            for name, (values, _) in poisoned.sides[side].ids.items():
                assert not (values == UNKNOWN_ID).any(), (side, name)
                assert values.sort().values.equal(clean.sides[side].ids[name][0].sort().values), (side, name)
        for name, numbers in poisoned.numbers.numbers.items():
            assert numbers.nan_to_num(-9.0).equal(clean.numbers.numbers[name].nan_to_num(-9.0)), name
        assert poisoned.log_weight_C.isfinite().all()


def test_every_training_event_of_the_windows_is_one(pair: Pair) -> None:
    sequences = pair.clean.sequences
    loader = BatchLoader(pair.clean, Recipe(name="t", model=ModelConfig(max_history=4)))
    split = np.asarray(sequences.split)
    windows = next(loader.order.in_order())
    for start, stop in zip(windows.start, windows.stop, strict=True):
        assert (split[start:stop] == TRAIN).all()
    assert np.array_equal(np.sort(loader.negatives), np.flatnonzero(pair.clean.trained_items))


def test_baselines_count_training_events_alone(pair: Pair) -> None:
    dataset = pair.clean
    sequences = dataset.sequences
    data = TrainingData.from_dataset(dataset)
    train = np.asarray(sequences.split) == TRAIN
    counts = np.zeros(data.n_items, int)
    for item in np.asarray(sequences.item)[train]:
        counts[item] += 1
    assert Popularity.fit(sequences, n_items=data.n_items).counts.tolist() == counts.tolist()
    cold = np.flatnonzero(~dataset.trained_items)
    assert len(cold)
    everything = Jagged(np.arange(data.n_items, dtype=np.int32), np.array([0, data.n_items]))
    user = np.zeros(1, np.int64)
    assert not ItemKNN.fit(sequences, n_items=data.n_items).scores(user, everything)[:, cold].any()
    newest = Recency.fit(data).scores(user, everything)[0]
    assert newest[cold].max() < newest[np.asarray(sequences.item)[train]].min()


def test_after_a_cut_nothing_is_trained_on_and_cold_means_untrained(pair: Pair) -> None:
    dataset = pair.clean
    split, moment = np.asarray(dataset.sequences.split), np.asarray(dataset.sequences.timestamp)
    if dataset.protocol["name"] == "temporal":
        cut = np.datetime64(dataset.protocol["validation_from"].removesuffix("+00:00")).astype("datetime64[us]")
        assert moment[split == TRAIN].max() < cut.astype(np.int64) <= moment[split != TRAIN].min()
    trained = set(np.asarray(dataset.sequences.item)[split == TRAIN].tolist())
    for part in (Split.VALIDATION, Split.TEST):
        cases = EvaluationCases.from_sequences(dataset.sequences, n_items=len(dataset.item_ids), split=part)
        assert cases.cold.tolist() == [t not in trained for t in cases.targets.tolist()]
        assert dataset.targets[part.label] == {"warm": int((~cases.cold).sum()), "cold": int(cases.cold.sum())}
    if dataset.protocol["name"] != "leave-one-out":
        assert dataset.targets["test"]["cold"] > 0
    if dataset.protocol.get("new_items_only"):
        assert dataset.targets["test"]["warm"] == dataset.targets["validation"]["warm"] == 0


def test_removed_events_are_gone_and_the_catalog_is_whole(pair: Pair) -> None:
    dataset = pair.clean
    counts = dataset.manifest["counts"]
    assert counts["items"] == len(dataset.item_ids) == 80
    assert counts["users"] == len(dataset.user_ids) == len(dataset.sequences.offsets) - 1 == 30
    assert counts["events"] == 30 * 9 - dataset.protocol.get("removed_events", 0) == len(dataset.sequences.item)
    assert counts["events"] == sum(counts[part] for part in ("train", "validation", "test", "history"))
    events = pq.read_table(dataset.path / "events.parquet")
    assert events["event"].to_pylist() == list(range(counts["events"]))
    users = events["user"].to_numpy()
    assert [np.count_nonzero(users == u) for u in range(30)] == [b - a for a, b in pairwise(dataset.sequences.offsets)]
