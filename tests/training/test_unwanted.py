"""Explicit negatives: an item that a user turned down ranks lower for that user than where turning down counts as a wish."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import torch

from rf_platform.dataset import Dataset
from rf_training import loss
from rf_training.config import Recipe, TrainConfig
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.evaluator import served_values
from rf_training.evaluation.ranking import rank_targets
from rf_training.evaluation.sequences import Jagged, Split
from rf_training.loading.batches import BatchLoader, Share
from rf_training.model.config import ModelConfig
from rf_training.model.storage import load_model
from rf_training.model_scorer import ModelScorer
from rf_training.trainer import Trainer

MEANINGS = "[{type: dislike, is: unwanted}, {type: impression, is: seen}]"
OBJECTIVES: list[dict[str, Any]] = [{"objective": "sampled"}, {"objective": "full"}]
Build = Callable[..., Dataset]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def worlds(
    tmp_path_factory: pytest.TempPathFactory, write_tables: Callable[..., None], build_with: Build
) -> dict[str, Dataset]:
    """Users who keep to one genre, and half of whom turn down one and the same film of that genre, early on.

    Every third event of the others is what a page showed them.
    """
    home = tmp_path_factory.mktemp("worlds")
    write_tables(home / "tables", users=40, items=40, events=12)
    table = home / "tables" / "interactions.parquet"
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute(f"CREATE TABLE log AS SELECT * FROM read_parquet('{table}')")
        # The genre of user u is (u - 1) % 5, that of item i is i % 5: film 100 + genre is turned down by users of even number.
        db.execute("DELETE FROM log WHERE user_id % 2 = 0 AND item_id = 100 + (user_id - 1) % 5")
        db.execute(
            """INSERT INTO log BY NAME SELECT * REPLACE ('dislike' AS event_type, 100 + (user_id - 1) % 5 AS item_id,
                event_timestamp - INTERVAL 1 MINUTE AS event_timestamp, 100000 + input_order AS input_order)
            FROM log WHERE user_id % 2 = 0 QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY event_timestamp) IN (2, 5)"""
        )
        db.execute("UPDATE log SET event_type = 'impression' WHERE user_id % 2 = 1 AND input_order % 9 = 4")
        db.execute(f"COPY (SELECT * FROM log ORDER BY input_order) TO '{table}' (FORMAT parquet)")
    return {"on": build_with(home, MEANINGS), "off": build_with(home, None)}


def recipe(**train: Any) -> Recipe:
    settings = {
        "epochs": 16,
        "batch_size": 8,
        "uniform_negatives": 20,
        "learning_rate": 1e-2,
        "ema_decay": 0.5,
        "overlap": 0.0,
        **train,
    }
    return Recipe(name="t", model=ModelConfig(dim=16, max_history=12), train=TrainConfig(**settings))


def turned_down(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """User rows, and for each the row of the film that the user turned down."""
    users = np.flatnonzero(dataset.user_ids % 2 == 0)
    return users, np.searchsorted(dataset.item_ids, 100 + (dataset.user_ids[users] - 1) % 5)


def mean_rank(dataset: Dataset, directory: Path, **train: Any) -> float:
    """Mean rank of the films turned down, among all, after the training events of the users who did."""
    directory.mkdir(parents=True)
    Trainer(recipe(**train), dataset, directory).run()
    scorer = ModelScorer(load_model(directory / "best", dataset.encoder), dataset)
    users, films = turned_down(dataset)
    lengths = dataset.training_counts.of_user[users]
    events = np.asarray(dataset.sequences.item)
    starts = np.asarray(dataset.sequences.offsets)[users]
    values = np.concatenate([events[s : s + n] for s, n in zip(starts, lengths, strict=True)])
    scores = scorer.scores(users, Jagged(values, np.concatenate([[0], np.cumsum(lengths)])))
    return float(np.mean((scores > scores[np.arange(len(users)), films][:, None]).sum(1) + 1))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=["sampled", "full"])
def test_what_a_user_turned_down_falls(worlds: dict[str, Dataset], tmp_path: Path, objective: dict[str, Any]) -> None:
    wish = mean_rank(worlds["off"], tmp_path / "wish", **objective)
    left_out = mean_rank(worlds["on"], tmp_path / "out", **objective, unwanted_weight=0.0)
    pushed = mean_rank(worlds["on"], tmp_path / "pushed", **objective)
    assert wish + 3 < pushed
    assert left_out + 2 < pushed  # no target is not enough: its genre lifts it


def test_the_loss_is_info_nce_with_that_one_negative() -> None:
    generator = torch.Generator().manual_seed(0)
    x_UD, y_UD, target_UD = (
        torch.nn.functional.normalize(torch.randn(5, 4, generator=generator), dim=1) for _ in range(3)
    )
    bias_U = torch.randn(5, generator=generator) * 0.1
    target_U = (x_UD * target_UD).sum(1)
    expected = 0.0
    for u in range(5):
        candidates = torch.stack([target_UD[u], y_UD[u]])
        bias_C = torch.stack([torch.zeros(()), bias_U[u]])
        one = loss.info_nce(
            x_UD[u : u + 1],
            candidates,
            bias_C,
            torch.tensor([0]),
            torch.zeros(1, 2, dtype=torch.bool),
            torch.zeros(2),
            0.07,
        )
        expected += float(one)
    assert float(loss.unwanted_loss(x_UD, y_UD, bias_U, target_U, 0.07)) == pytest.approx(expected, rel=1e-5)
    assert float(loss.unwanted_loss(x_UD, y_UD, None, target_U, 1e9)) == pytest.approx(5 * np.log(2))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=["sampled", "full"])
def test_a_batch_has_what_was_turned_down_before_the_target(
    worlds: dict[str, Dataset], objective: dict[str, Any]
) -> None:
    dataset = worlds["on"]
    log = dataset.sequences
    assert log.aside is not None
    loader = BatchLoader(dataset, recipe(**objective))
    windows = next(loader.order.in_order())
    batch = loader.batch(windows, np.random.default_rng(0))
    vocabulary = dataset.encoder.vocabularies["item_id"].values.to_numpy()
    rows = vocabulary[batch.sides["item"].ids["item_id"][0].numpy() - 2]
    targets = windows.targets
    assert 0 < len(batch.unwanted_U) < len(targets)
    for unwanted, query in zip(rows[batch.unwanted_U.numpy()], batch.refusing_U.tolist(), strict=True):
        event = targets[query]
        user = int(np.searchsorted(log.offsets, event, side="right")) - 1
        number = int(dataset.user_ids[user])
        assert number % 2 == 0
        assert unwanted == 100 + (number - 1) % 5
        (first, *_) = log.aside.first[(log.aside.first >= log.offsets[user]) & log.aside.unwanted]
        assert event >= first
    refusing = set(batch.refusing_U.tolist())
    for query, event in enumerate(targets.tolist()):
        user = int(np.searchsorted(log.offsets, event, side="right")) - 1
        if dataset.user_ids[user] % 2 == 0 and event > log.offsets[user] + 1:  # the refusal was before the second event
            assert query in refusing
    assert (
        len(
            BatchLoader(dataset, recipe(**objective, unwanted_weight=0.0))
            .batch(windows, np.random.default_rng(0))
            .unwanted_U
        )
        == 0
    )


def test_shares_of_a_step_have_its_negatives_between_them(worlds: dict[str, Dataset]) -> None:
    dataset = worlds["on"]

    def pairs(share: Share) -> list[tuple[int, int]]:
        loader = BatchLoader(dataset, recipe(), share)
        windows = next(loader.order.in_order())
        batch = loader.batch(windows, np.random.default_rng(3))
        ids = batch.sides["item"].ids["item_id"][0].numpy()
        own = share.windows(np.arange(len(windows)))
        targets = windows.take(own).targets
        return [
            (int(targets[q]), int(ids[u]))
            for u, q in zip(batch.unwanted_U.tolist(), batch.refusing_U.tolist(), strict=True)
        ]

    whole = pairs(Share())
    parts = [pair for rank in range(3) for pair in pairs(Share(rank=rank, size=3))]
    assert sorted(parts) == sorted(whole)
    assert whole


def test_unwanted_and_seen_events_are_no_test_targets_and_leave_the_list(worlds: dict[str, Dataset]) -> None:
    dataset = worlds["on"]
    log = dataset.sequences
    assert log.aside is not None
    cases = EvaluationCases.from_sequences(log, n_items=dataset.n_items, split=Split.TEST)
    types = dataset.contexts["past__event_types"].to_pylist()
    assert set(types) == {"rating"}
    rows, items = cases.seen(0, len(cases))
    beside = 0
    for case in range(len(cases)):
        start, stop = cases.starts[case], cases.stops[case]
        history = set(np.asarray(log.item[start:stop]).tolist())
        mine = (log.aside.first >= start) & (log.aside.first <= stop)
        aside = set(np.asarray(log.aside.item)[mine].tolist())
        beside += len(aside - history)
        assert set(items[rows == case].tolist()) == history | aside
    assert beside > 10

    class Favourites:
        name = "turned down first"

        def scores(self, users: Any, histories: Any) -> Any:
            found = np.zeros((len(users), dataset.n_items), np.float32)
            places, films = turned_down(dataset)
            for row, user in enumerate(users):
                if user in places:
                    found[row, films[np.flatnonzero(places == user)[0]]] = 1.0
            found[np.arange(len(users)), cases.targets[np.searchsorted(cases.users, users)]] = 0.5
            return found

    ranks = rank_targets(Favourites(), cases, seed=0)
    refusing = np.isin(cases.users, turned_down(dataset)[0])
    assert (ranks.kept[refusing] == 2).all()
    assert (ranks.excluded[refusing] == 1).all()  # what was turned down is not offered again
    assert len(served_values(ranks, cases)) == len(cases)
    assert (cases.seen_before | ~cases.repeated).all()


def test_the_moment_of_a_refusal_counts(worlds: dict[str, Dataset]) -> None:
    log = worlds["on"].sequences
    assert log.aside is not None
    starts = np.asarray(log.offsets)[:-1]
    early, _ = log.aside.seen(starts, starts)
    late, _ = log.aside.seen(starts, np.asarray(log.offsets)[1:] - 1)
    assert len(early) < len(late)
