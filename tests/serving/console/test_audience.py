"""Who gets an item: the answers of recent users now, and those of the serving log."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rf_console.audience import audience_logged, audience_now
from rf_console.recent_users import RecentUsers
from rf_platform.registry import Registry
from rf_platform.settings import Settings
from rf_protos.v1.feedback_pb2 import Event, EventStatus
from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, Session
from rf_serving.client import RetrievalClient

from ..conftest import REPOSITORY, USERS, RunningServer, running_server
from .conftest import Browser, running_console

POLICY = "default: home\nplacements:\n  home: {}\n  drama:\n    eligibility: [item_attributes__genres=Drama]\n"


def held(running: RunningServer, item: str, users: list[str], k: int, placement: str = "") -> dict[str, int]:
    """Places of an item in the answers of users who get it."""
    places = {}
    for user in users:
        asked = RetrieveRequest(user_id=user, k=k, exclude_seen=True, placement=placement)
        ids = [each.item_id for each in running.stub.Retrieve(asked).items]
        if item in ids:
            places[user] = ids.index(item) + 1
    return places


def popular(running: RunningServer, k: int) -> str:
    """An item that some users get, and others do not."""
    users = [str(user) for user in range(1, USERS + 1)]
    for item in (str(each) for each in range(1, 61)):
        if 2 <= len(held(running, item, users, k)) < USERS:
            return item
    raise AssertionError("no item divides the users")


def test_recent_users_are_those_of_the_interactions(settings: Settings, home: Path) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(settings.workspace.tables / "interactions.parquet").sort_by("event_timestamp")
    newest = list(dict.fromkeys(str(user) for user in reversed(table["user_id"].to_pylist())))
    found = RecentUsers(settings).ids("user_id")
    assert sorted(found) == sorted(newest)
    assert found[0] == newest[0]


def test_the_page_counts_the_answers_of_the_server(browser: Browser, served: RunningServer) -> None:
    k = 5
    item = popular(served, k)
    users = [str(user) for user in range(1, USERS + 1)]
    expected = held(served, item, users, k)
    shown = browser.get(f"/item/audience?id={item}&k={k}&users=200")
    assert shown.status == 200
    links = {part.partition("&")[0] for part in shown.text.split('href="/user?id=')[1:]}
    assert links == set(expected) or (len(expected) > 20 and links < set(expected))
    assert f"none {USERS} {len(expected)} {len(expected) / USERS:.1%}" in shown.words
    assert "There is no serving log" in shown.words
    assert browser.get("/item/audience?id=nothing").status == 404
    assert browser.get(f"/item/audience?id={item}&k=0").status == 400


def test_time_is_bounded(served: RunningServer) -> None:
    class Slow(RetrievalClient):
        def retrieve(self, request: RetrieveRequest) -> Any:
            time.sleep(0.2)
            return super().retrieve(request)

    with Slow(served.server.address) as client:
        users = [str(user) for user in range(1, USERS + 1)]
        found = audience_now(client, "17", users, [""], k=5, seconds=0.3)
        assert not found.complete
        assert 0 < found.shares[0].asked < USERS
    with RetrievalClient("127.0.0.1:1") as nobody:
        found = audience_now(nobody, "17", users, [""], k=5, seconds=5)
    assert "no server answers" in found.problem
    assert not found.recipients


@pytest.fixture
def own(home: Path, tmp_path: Path, copy_workspace: Callable[[Path, Path], Path]) -> Settings:
    """A workspace with a policy, whose servers log all answers."""
    settings = Settings(home=copy_workspace(home, tmp_path / "home"), feature_repo=REPOSITORY, log_share=1.0)
    Registry.of(settings).policies.apply(POLICY, "")
    return settings


def test_placements_and_the_serving_log(own: Settings) -> None:
    k, users = 5, [str(user) for user in range(1, USERS + 1)]
    assert audience_logged(own, "17") is None
    with running_server(own) as running:
        item = popular(running, k)
        visitor = Session(history=[Interaction(item_id="50")])
        running.stub.Retrieve(RetrieveRequest(session=visitor, k=60, placement="home"))
        answered = running.stub.Retrieve(RetrieveRequest(user_id="3", k=60, placement="drama"))
    place = next((rank for rank, each in enumerate(answered.items, 1) if each.item_id == item), None)
    found = audience_logged(own, item)  # the server has written all when it ends
    assert found is not None
    shares = {each.placement: each for each in found.shares}
    assert (shares["drama"].asked, shares["drama"].got) == (1, int(place is not None))
    assert (shares["drama"].place, shares["home"].got >= 3) == (place, True)
    latest = found.recipients[1 if place is not None else 0]
    assert (latest.user, latest.placement) == ("", "home")
    with (
        running_server(own) as running,
        running_console(own, address=running.server.address) as port,
    ):
        shown = Browser(port).get(f"/item/audience?id={item}&k={k}&users=200")
        for name in ("home", "drama"):
            places = held(running, item, users, k, name)
            assert f"{name} {USERS} {len(places)} " in shown.words
        assert f"{shares['home'].asked} {shares['home'].got} " in shown.words
        assert "a session" in shown.words
        assert "&amp;placement=home" in shown.text

        event = Event(event_id="e1", user_id="777", item_id="5", timestamp_us=int(time.time() * 1e6))
        event.values["event_type"].string_value = "rating"
        with RetrievalClient(running.server.address) as client:
            (status,) = client.record([event])
        assert status.outcome == EventStatus.RECORDED, status
        assert "777" in RecentUsers(own).ids("user_id")  # who was never imported
