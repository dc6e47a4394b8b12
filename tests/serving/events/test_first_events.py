"""From RecordEvents to an item that has moved: on a server, in a second one, after a restart; and what a flood costs."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rf_platform.errors import CorruptError
from rf_platform.registry.evidence import EvidenceJournal
from rf_platform.registry.journal import CatalogJournal
from rf_platform.settings import Settings
from rf_protos.v1.catalog_pb2 import DeleteItemsRequest, Item, UpsertItemsRequest
from rf_protos.v1.catalog_pb2_grpc import CatalogServiceStub
from rf_protos.v1.features_pb2 import FeatureValue, StringList
from rf_protos.v1.feedback_pb2 import Event, RecordEventsRequest
from rf_protos.v1.feedback_pb2_grpc import FeedbackServiceStub
from rf_serving.catalog.live import LiveCatalog
from rf_serving.events import first_events
from rf_serving.user_features.features import UserFeatures
from rf_serving.user_features.fetcher import FeatureFetcher
from rf_serving.user_features.moment import before, read, written

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
SECONDS = 5.0
"""Promised from an event to a search that finds the item where it has moved to."""
BUSY = 4
"""Times as long as promised, on a machine with other work."""


@pytest.fixture(scope="module")
def workspace(
    home: Path, tmp_path_factory: pytest.TempPathFactory, copy_workspace: Callable[[Path, Path], Path]
) -> Settings:
    copy = copy_workspace(home, tmp_path_factory.mktemp("first-events") / "home")
    return Settings(home=copy, feature_repo=REPOSITORY)


@pytest.fixture(scope="module")
def running(workspace: Settings, start_server: Callable[..., Any]) -> Iterator[Any]:
    with start_server(workspace) as running:
        yield running


def catalog_of(running: Any) -> LiveCatalog:
    catalog = running.retriever.routing.active.engine.catalog
    assert isinstance(catalog, LiveCatalog)
    return catalog


def upsert(running: Any, *items: int) -> None:
    stub = CatalogServiceStub(running.channel)  # type: ignore[no-untyped-call]
    features = {"item_attributes__genres": FeatureValue(string_list=StringList(values=["War"]))}
    stub.UpsertItems(UpsertItemsRequest(items=[Item(item_id=str(item), features=features) for item in items]))


def record(running: Any, pairs: list[tuple[int, int]], name: str) -> None:
    stub = FeedbackServiceStub(running.channel)  # type: ignore[no-untyped-call]
    now = int(time.time() * 1e6)
    stub.RecordEvents(
        RecordEventsRequest(
            events=[
                Event(event_id=f"{name}-{n}", user_id=str(user), item_id=str(item), timestamp_us=now)
                for n, (user, item) in enumerate(pairs)
            ]
        )
    )


def vector(catalog: LiveCatalog, item: int) -> npt.NDArray[np.float32]:
    snapshot = catalog.snapshot
    found: npt.NDArray[np.float32] = snapshot.vectors(snapshot.rows_of([item]))[0]
    return found


def wait(until: Callable[[], bool], seconds: float = SECONDS * BUSY) -> float:
    begin = time.monotonic()
    while not until():
        assert time.monotonic() < begin + seconds, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - begin


def test_an_event_moves_its_item_and_every_server_has_it_there(
    workspace: Settings, running: Any, start_server: Callable[..., Any]
) -> None:
    upsert(running, 9001, 9002)
    catalog = catalog_of(running)
    built = vector(catalog, 9001)
    with start_server(workspace) as other:
        record(running, [(20, 9001), (21, 9001), (22, 9001)], "a")
        wait(lambda: not np.array_equal(vector(catalog, 9001), built))
        evidence = EvidenceJournal(CatalogJournal.open(workspace.platform_registry_url).engine)
        wait(lambda: evidence.counts() == {"9001": 3})
        wait(lambda: np.array_equal(vector(catalog, 9001), vector(catalog_of(other), 9001)))
    assert np.array_equal(vector(catalog, 9002), built)
    # The query is that of the moment before: the user's history without the event.
    row = next(each for each in evidence.read(0) if each.user_id == "20")
    history = read(row.features)
    assert 9001 not in history.items
    assert len(history.items) > 0
    assert catalog.first_users is not None
    np.testing.assert_allclose(
        np.frombuffer(row.query, "<f4"), catalog.first_users.encode([row.features])[0], atol=1e-5
    )
    # It goes on from there after a restart, and events are not counted twice.
    with start_server(workspace) as again:
        np.testing.assert_allclose(vector(catalog_of(again), 9001), vector(catalog, 9001), atol=1e-5)
    assert running.metrics.registry.get_sample_value("rf_first_events_total", {"outcome": "NOTED"}) == 3
    assert running.metrics.registry.get_sample_value("rf_catalog_learned_items") == 1


def test_a_deleted_item_forgets(running: Any, workspace: Settings) -> None:
    upsert(running, 9003)
    catalog = catalog_of(running)
    built = vector(catalog, 9003)
    record(running, [(20, 9003)], "b")
    wait(lambda: not np.array_equal(vector(catalog, 9003), built))
    CatalogServiceStub(running.channel).DeleteItems(DeleteItemsRequest(item_ids=["9003"]))  # type: ignore[no-untyped-call]
    upsert(running, 9003)
    np.testing.assert_allclose(vector(catalog, 9003), built, atol=1e-6)
    evidence = EvidenceJournal(CatalogJournal.open(workspace.platform_registry_url).engine)
    assert "9003" not in evidence.counts()


def test_a_flood_is_bounded_and_one_user_of_it_counts_once(
    running: Any, workspace: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_events, "MOST_AT_ONCE", 4)
    monkeypatch.setattr(first_events, "TICK_SECONDS", 1.0)
    upsert(running, 9004, 9005)
    evidence = EvidenceJournal(CatalogJournal.open(workspace.platform_registry_url).engine)
    flood = [(25, 9004)] * 400 + [(user, 9004) for user in range(10, 20)] + [(11, 9005), (12, 9005)]
    record(running, flood, "c")
    wait(lambda: "9004" in evidence.counts())
    time.sleep(2.5)
    counts = evidence.counts()
    users = [each.user_id for each in evidence.read(0) if each.item_id == "9004"]
    assert users.count("25") <= 1
    assert counts["9004"] + counts.get("9005", 0) <= 4
    skipped = running.metrics.registry.get_sample_value("rf_first_events_total", {"outcome": "SKIPPED"})
    assert skipped is not None
    assert skipped >= 9


def test_a_damaged_user_keeps_nobody_away_and_a_look_comes_before_what_counts(
    running: Any, workspace: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = FeatureFetcher.decode

    def damaged(self: FeatureFetcher, user_id: int | str, row: Any) -> UserFeatures:
        if user_id == 24:
            raise CorruptError("the history of user_id 24 does not fit together")
        return decode(self, user_id, row)

    monkeypatch.setattr(FeatureFetcher, "decode", damaged)
    monkeypatch.setattr(
        first_events, "meaning_of", lambda rules, values: "seen" if values.get("event_type") == "view" else "wanted"
    )
    upsert(running, 9010)
    now = int(time.time() * 1e6)
    looks = [("24", "rating"), ("22", "view"), ("22", "rating"), ("23", "rating")]
    FeedbackServiceStub(running.channel).RecordEvents(  # type: ignore[no-untyped-call]
        RecordEventsRequest(
            events=[
                Event(
                    event_id=f"e-{n}",
                    user_id=user,
                    item_id="9010",
                    timestamp_us=now + n,
                    values={"event_type": FeatureValue(string_value=kind)},
                )
                for n, (user, kind) in enumerate(looks)
            ]
        )
    )
    evidence = EvidenceJournal(CatalogJournal.open(workspace.platform_registry_url).engine)
    wait(lambda: {each.user_id for each in evidence.read_of(["9010"], 10**9)} == {"22", "23"})


def test_a_server_without_the_switch_leaves_items_where_they_are(
    home: Path,
    tmp_path: Path,
    start_server: Callable[..., Any],
    copy_workspace: Callable[[Path, Path], Path],
) -> None:
    copy = copy_workspace(home, tmp_path / "home")
    with start_server(Settings(home=copy, feature_repo=REPOSITORY, first_events=False)) as running:
        upsert(running, 9001)
        assert catalog_of(running).first_users is None
        record(running, [(20, 9001)], "d")
        time.sleep(2)
        journal = CatalogJournal.open(Settings(home=copy).platform_registry_url)
        assert EvidenceJournal(journal.engine).counts() == {}


def features(items: list[int], times: list[int] | None) -> UserFeatures:
    return UserFeatures(
        profile={"user__gender": "F"},
        items=items,
        timestamps=None if times is None else np.array(times, np.int64) * 1_000_000,
        context={"past__hours": list(range(len(items)))},
    )


@pytest.mark.parametrize(
    ("items", "times", "kept"),
    [
        ([1, 2, 7], [10, 20, 30], [1, 2]),
        ([1, 7, 2, 7, 3], [10, 20, 25, 30, 40], [1, 7, 2]),  # they had it before, too, and something after
        ([1, 2, 3], [10, 20, 40], [1, 2]),  # the event itself is not there yet
        ([1, 7, 2], None, [1]),  # an online store without times
        ([8, 9], [40, 50], []),  # it is long gone from the history
        ([], None, []),
    ],
)
def test_the_history_just_before(items: list[int], times: list[int] | None, kept: list[int]) -> None:
    found = before(features(items, times), 7, 30_500_000)
    assert list(found.items) == kept
    assert len(found.context["past__hours"]) == len(kept)
    again = read(written(found, most=2))
    assert list(again.items) == kept[-2:]
    assert again.profile == {"user__gender": "F"}
    assert again.context["past__hours"] == list(range(len(kept)))[-2:]
