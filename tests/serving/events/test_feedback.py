"""RecordEvents over gRPC: what is acknowledged, refused and seen by the next Retrieve."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from rf_platform.settings import Settings
from rf_protos.v1.features_pb2 import FeatureValue
from rf_protos.v1.feedback_pb2 import Event, EventStatus, RecordEventsRequest
from rf_protos.v1.feedback_pb2_grpc import FeedbackServiceStub
from rf_protos.v1.retrieval_pb2 import RetrieveRequest

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"


@pytest.fixture(scope="module")
def running(
    home: Path,
    tmp_path_factory: pytest.TempPathFactory,
    start_server: Callable[..., Any],
    copy_workspace: Callable[[Path, Path], Path],
) -> Iterator[Any]:
    copy = copy_workspace(home, tmp_path_factory.mktemp("feedback") / "home")
    with start_server(Settings(home=copy, feature_repo=REPOSITORY)) as running:
        yield running


def now_us() -> int:
    return int(time.time() * 1e6)


def record(running: Any, *events: Event) -> list[EventStatus]:
    stub = FeedbackServiceStub(running.channel)  # type: ignore[no-untyped-call]
    return list(stub.RecordEvents(RecordEventsRequest(events=events)).statuses)


def seen(running: Any, user: str) -> list[str]:
    request = RetrieveRequest(user_id=user, k=5, exclude_seen=True, return_history=True)
    return list(running.stub.Retrieve(request).history)


def wait_for(running: Any, user: str, history: list[str], seconds: float = 10.0) -> float:
    start = time.monotonic()
    while seen(running, user) != history:
        assert time.monotonic() - start < seconds, seen(running, user)
        time.sleep(0.005)
    return time.monotonic() - start


def test_the_next_retrieve_reflects_an_event(running: Any) -> None:
    before = seen(running, "17")
    values = {"event_type": FeatureValue(string_value="rating"), "rating": FeatureValue(double_value=4.0)}
    event = Event(event_id="a1", user_id="17", item_id="60", timestamp_us=now_us(), values=values)
    (status,) = record(running, event)
    assert (status.event_id, status.outcome, status.message) == ("a1", EventStatus.RECORDED, "")
    wait_for(running, "17", [*before, "60"])
    (again,) = record(running, event)
    assert again.outcome == EventStatus.DUPLICATE
    time.sleep(0.3)
    assert seen(running, "17") == [*before, "60"]


def test_events_take_their_place_by_time_whatever_order_they_come_in(running: Any) -> None:
    now = now_us()
    events = [
        Event(event_id=f"o{n}", user_id="700", item_id=str(item), timestamp_us=now - seconds * 1_000_000)
        for n, (item, seconds) in enumerate([(1, 50), (2, 10), (3, 30), (4, 30), (5, 90)])
    ]
    record(running, *events[:2])
    record(running, *events[2:])
    wait_for(running, "700", ["5", "1", "3", "4", "2"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"event_id": ""}, r"^event_id: must not be empty"),
        ({"event_id": "x" * 129}, r"^event_id: 129 characters"),
        ({"user_id": ""}, r"^user_id: must not be empty"),
        ({"user_id": "joe"}, r"^user_id: 'joe' is not an id here"),
        ({"item_id": "1.5"}, r"^item_id: '1.5' is not an id here"),
        ({"timestamp_us": 0}, r"^timestamp_us: 0 is no time"),
        ({"timestamp_us": -5}, r"^timestamp_us: -5 is no time"),
        ({"timestamp_us": 4_000_000_000_000_000}, r"^timestamp_us: .* in the future"),
        ({"values": {"ratng": FeatureValue(double_value=1)}}, r'^values\["ratng"\]: .* did you mean rating'),
        (
            {"values": {"rating": FeatureValue(string_value="one")}},
            r'^values\["rating"\]: .one. is no Float32: expected a number',
        ),
        ({"values": {"rating": FeatureValue(double_value=float("nan"))}}, r'^values\["rating"\]: nan is not a usable'),
        ({"values": {"rating": FeatureValue(double_value=1e39)}}, r'^values\["rating"\]: 1e\+39 is not a usable'),
        (
            {"values": {"rating": FeatureValue(double_value=-1e38)}},
            r'^values\["rating"\]: -1e\+38 is not a usable number: it lies more than 10,000 deviations',
        ),
        ({"timestamp_us": 1_795_996_115_279}, r"^timestamp_us: 1795996115279 looks like milliseconds since 1970"),
        ({"timestamp_us": 1_795_996_115}, r"^timestamp_us: 1795996115 looks like seconds since 1970"),
        (
            {"timestamp_us": 300_000_000_000_000},
            r"^timestamp_us: 300000000000000 is 1979-07-05T05:20:00Z .* before 1990",
        ),
        ({"values": {"hour": FeatureValue(int_value=3)}}, r'^values\["hour"\]: this column comes from timestamp_us'),
        ({"values": {"event_type": FeatureValue(string_value="a\x00b")}}, r"null character"),
    ],
)
def test_a_wrong_event_is_rejected_and_the_others_are_recorded(
    running: Any, change: dict[str, Any], message: str, request: pytest.FixtureRequest
) -> None:
    import re

    name = str(abs(hash(request.node.name)))[:20]
    good: dict[str, Any] = {"event_id": f"g{name}", "user_id": "701", "item_id": "7", "timestamp_us": now_us()}
    bad = Event(**{**good, "event_id": f"b{name}", **change})
    first, second = record(running, bad, Event(**good))
    assert first.outcome == EventStatus.REJECTED
    assert re.search(message, first.message), first.message
    assert second.outcome == EventStatus.RECORDED
    (after,) = record(running, Event(**{**good, "event_id": f"b{name}"}))
    assert after.outcome == EventStatus.RECORDED  # a rejected id was not used up


def test_the_same_id_twice_in_a_request_is_one_event(running: Any) -> None:
    event = Event(event_id="twice", user_id="702", item_id="8", timestamp_us=now_us())
    assert [s.outcome for s in record(running, event, event)] == [EventStatus.RECORDED, EventStatus.DUPLICATE]
    wait_for(running, "702", ["8"])


def test_an_item_that_the_catalog_lacks_is_recorded_with_a_note(running: Any) -> None:
    events = [
        Event(event_id=f"u{n}", user_id="703", item_id=item, timestamp_us=now_us())
        for n, item in enumerate(("9", "4711"))
    ]
    known, unknown = record(running, *events)
    assert (known.outcome, known.message) == (EventStatus.RECORDED, "")
    assert unknown.outcome == EventStatus.RECORDED
    assert unknown.message.startswith("item_id: the catalog has no such item")
    wait_for(running, "703", ["9"])


def test_no_events_and_too_many_are_refused(running: Any) -> None:
    for count in (0, 1001):
        events = [Event(event_id=f"m{n}", user_id="1", item_id="1", timestamp_us=1) for n in range(count)]
        with pytest.raises(grpc.RpcError) as refused:
            record(running, *events)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "events" in str(refused.value.details())
