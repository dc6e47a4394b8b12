"""Which state of an item an evaluation may use."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rf_platform.dataset import Dataset
from rf_platform.dataset.build import build_dataset
from rf_platform.features.read import FeatureDefinitions, ViewSource
from rf_platform.features.spec import EntitySpec, FeatureSpec, FieldSpec

START = datetime(2024, 1, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


@pytest.fixture
def dataset(tmp_path: Path, write: Callable[..., Path]) -> Dataset:
    """Each sale of an item is followed, a minute later, by a row that tells of it; items 4 and 5 are never sold in training.

    Users 1 and 2 buy items 1, 2, 3, 4 in this order, user 2 an hour and a half after user 1; so 3 is the validation item and
    4 the test item of both.
    """
    events = [(user, item, at(10 * item + 1.5 * user)) for user in (1, 2) for item in (1, 2, 3, 4)]
    log = write(
        "log",
        user_id=[e[0] for e in events],
        item_id=[e[1] for e in events],
        event_timestamp=[e[2] for e in events],
        input_order=list(range(len(events))),
    )
    states = [(item, at(0), 0) for item in (1, 2, 3, 4)]
    states += [(item, when + timedelta(minutes=1), user) for user, item, when in events]
    states += [(5, at(30), 50), (5, at(60), 51)]
    source = write("sold", item_id=[s[0] for s in states], ts=[s[1] for s in states], last_buyer=[s[2] for s in states])
    last_buyer = FieldSpec(view="sold", field="last_buyer", side="item", kind="numeric", role="feature", dtype="Int64")
    spec = FeatureSpec(
        service="s",
        user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
        item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
        fields=(last_buyer,),
        domains=(),
        history_length=5,
    )
    view = ViewSource(
        view="sold",
        side="item",
        path=str(source),
        join_key="item_id",
        timestamp="ts",
        created=None,
        ttl=None,
        columns={"last_buyer": "last_buyer"},
    )
    definitions = FeatureDefinitions(spec=spec, sources=(view,))
    return build_dataset(definitions, log, tmp_path / "datasets", "sales")[0]


def states(dataset: Dataset, rows: object) -> dict[int, int]:
    table = dataset.items.take(rows)
    return dict(zip(table["item_id"].to_pylist(), table["sold__last_buyer"].to_pylist(), strict=True))


def test_evaluation_uses_what_training_saw(dataset: Dataset) -> None:
    found = states(dataset, dataset.evaluation_items)
    # User 2's training events saw that user 1 had bought items 1 and 2. Items 3 and 4 were never met in training: their first
    # state, nobody had bought them, not that of the held-out sales. Item 5 is new: the state it appeared with.
    assert found == {1: 1, 2: 1, 3: 0, 4: 0, 5: 50}


def test_serving_uses_the_newest_state(dataset: Dataset) -> None:
    assert states(dataset, dataset.current_items) == {1: 2, 2: 2, 3: 2, 4: 2, 5: 51}


def test_both_name_every_item_once(dataset: Dataset) -> None:
    for rows in (dataset.current_items, dataset.evaluation_items):
        assert dataset.items.take(rows)["item"].to_pylist() == [0, 1, 2, 3, 4]
