"""A bundle of today's definitions and one of yesterday's on one server: neither minds what the other knows."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from rf_platform.errors import CorruptError
from rf_platform.features.materialize import materialize
from rf_platform.registry import Registry
from rf_platform.settings import Settings
from rf_protos.v1.catalog_pb2 import GetItemsRequest, Item, UpsertItemsRequest, UpsertStatus
from rf_protos.v1.catalog_pb2_grpc import CatalogServiceStub
from rf_protos.v1.deployment_pb2 import GetDeploymentRequest, GetDeploymentResponse
from rf_protos.v1.deployment_pb2_grpc import DeploymentServiceStub
from rf_protos.v1.features_pb2 import FeatureValue, StringList
from rf_protos.v1.feedback_pb2 import Event, EventStatus, RecordEventsRequest
from rf_protos.v1.feedback_pb2_grpc import FeedbackServiceStub
from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, Session

OLD, WIDE = "tiny-run-1", "wide-run-1"
USERS = [str(user) for user in range(1, 32)]
STUDIO, COUNTRY, AGAIN = "item_attributes__studio", "user_profile__country", "interaction_context__again"
DEVICES = "devices_used__names"


@pytest.fixture(autouse=True)
def as_urgent_as_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with much to do, loads in the background would take forever otherwise."""
    monkeypatch.setattr("rf_serving.threads.NICE", 0)


def deployment(running: Any) -> GetDeploymentResponse:
    stub = DeploymentServiceStub(running.channel)  # type: ignore[no-untyped-call]
    response: GetDeploymentResponse = stub.GetDeployment(GetDeploymentRequest())
    return response


def answers(running: Any, bundle: str) -> list[list[tuple[str, float]]]:
    replies = [running.stub.Retrieve(RetrieveRequest(user_id=user, k=10)) for user in USERS]
    assert {(reply.bundle, reply.degraded) for reply in replies} == {(bundle, False)}
    return [[(item.item_id, round(item.score, 4)) for item in reply.items] for reply in replies]


def read(running: Any, user: int) -> Any:
    """What the active bundle's own reader finds."""
    fetcher = running.parts.deployments.serving.active.route.fetcher.connected()
    try:
        return fetcher.fetch(user)
    finally:
        fetcher.close()


def check_a_torn_history(fetcher: Any, user: int) -> None:
    """A read between the writes of two history views does without the other view's arrays; within one view they must fit."""
    (row,) = fetcher.read([user])
    whole = fetcher.decode(user, row)
    row[DEVICES].string_list_val.val.append("tv")
    torn = fetcher.decode(user, row)
    assert (torn.items, set(whole.context) - set(torn.context)) == (whole.items, {DEVICES})
    row[AGAIN].int64_list_val.val.append(1)
    with pytest.raises(CorruptError, match=r"interaction_context\.again"):
        fetcher.decode(user, row)
    fetcher.close()


def test_events_reach_both_though_the_store_keeps_more_than_one_knows(
    wider: Settings, start_server: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    """From definitions that are applied and not loaded, over the first events, to a materialisation."""
    wider = wider.model_copy(update={"first_events": False})  # else they move the items for all
    registry = Registry.of(wider)
    with start_server(wider, poll_seconds=0.02) as running:
        feedback = FeedbackServiceStub(running.channel)  # type: ignore[no-untyped-call]
        number = iter(range(100))

        def click(user: int, item: int) -> None:
            event = Event(
                event_id=f"e{next(number)}", user_id=str(user), item_id=str(item), timestamp_us=time.time_ns() // 1000
            )
            event.values["device"].string_value = "watch"
            (status,) = feedback.RecordEvents(RecordEventsRequest(events=[event])).statuses
            assert status.outcome == EventStatus.RECORDED
            wait_until(lambda: list(read(running, user).items)[-1:] == [item])

        before = answers(running, OLD)
        old = read(running, 17)
        click(17, 3)
        found = read(running, 17)
        assert list(found.items) == [*old.items, 3]
        assert set(found.context) == set(old.context)
        registry.promote(WIDE)
        wait_until(lambda: deployment(running).active.name == WIDE)
        # the new fields of those who did something are there, of others they are missing
        row = read(running, 17)
        assert (row.context[DEVICES][-1], len(row.context[DEVICES]), len(row.context[AGAIN])) == (
            "watch",
            *[len(row.items)] * 2,
        )
        assert row.profile[COUNTRY] is None
        check_a_torn_history(running.parts.deployments.serving.active.route.fetcher.connected(), 17)
        assert not {DEVICES, AGAIN} & set(read(running, 18).context)
        waiting = answers(running, WIDE)
        click(18, 4)
        assert {DEVICES, AGAIN} <= set(read(running, 18).context)

        materialize(wider)
        assert read(running, 18).context[DEVICES][-1] == "watch"
        assert read(running, 17).profile[COUNTRY] == "fr"
        assert answers(running, WIDE) != waiting
        registry.rollback()
        wait_until(lambda: deployment(running).active.name == OLD)
        after = answers(running, OLD)
        moved = [user for user, a, b in zip(USERS, before, after, strict=True) if a != b]
        assert moved == ["17", "18"]  # by what they did since


def test_a_split_and_a_shadow_of_two_specifications(
    wider: Settings, start_server: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    """Callers cannot know which bundle answers: both take a session with features that one of them does not know."""
    registry = Registry.of(wider)
    with start_server(wider, poll_seconds=0.02) as running:
        alone = answers(running, OLD)
        registry.traffic.split(WIDE, 50)
        registry.traffic.shadow(WIDE, 1.0)
        wait_until(lambda: deployment(running).split_percent == 50 and deployment(running).HasField("shadow"))
        by: dict[str, int] = {OLD: 0, WIDE: 0}
        for user, expected in zip(USERS, alone, strict=True):
            reply = running.stub.Retrieve(RetrieveRequest(user_id=user, k=10))
            by[reply.bundle] += 1
            if reply.bundle == OLD:
                assert [(item.item_id, round(item.score, 4)) for item in reply.items] == expected
        for n in range(20):
            session = Session(session_id=f"s{n}", history=[Interaction(item_id="3")])
            session.profile[COUNTRY].string_value = "de"
            session.history[0].context[DEVICES].string_value = "tv"
            by[running.stub.Retrieve(RetrieveRequest(session=session, k=5)).bundle] += 1
        assert min(by.values()) > 10
        wait_until(lambda: deployment(running).shadow_report.requests == by[OLD])
        assert deployment(running).shadow_report.failed == 0


def test_an_item_keeps_values_for_bundles_that_know_them(
    wider: Settings, start_server: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    registry = Registry.of(wider)
    with start_server(wider, poll_seconds=0.02) as running:
        catalog = CatalogServiceStub(running.channel)  # type: ignore[no-untyped-call]

        def item(item_id: str, studio: FeatureValue, name: str = STUDIO) -> Item:
            genres = FeatureValue(string_list=StringList(values=["War"]))
            return Item(item_id=item_id, features={"item_attributes__genres": genres, name: studio})

        a24 = FeatureValue(string_value="A24")
        asked = [
            item("900", a24),
            item("901", FeatureValue(string_list=StringList(values=["A24"]))),
            item("902", a24, "item_attributes__stduio"),
        ]
        added, wrong, misspelt = catalog.UpsertItems(UpsertItemsRequest(items=asked)).statuses
        assert added.outcome == UpsertStatus.ADDED
        assert added.message == (
            f"items[0].features: bundle '{OLD}' is older than {STUDIO}; recorded for bundles that know it"
        )
        assert wrong.outcome == misspelt.outcome == UpsertStatus.REJECTED
        assert f'items[1].features["{STUDIO}"]: string_list is given, but the feature is String' in wrong.message
        assert "there is no such feature" in misspelt.message
        again = catalog.UpsertItems(UpsertItemsRequest(items=asked[:1])).statuses[0]
        assert (again.outcome, again.sequence) == (UpsertStatus.UNCHANGED, added.sequence)

        known = item("5", a24)  # of the catalog, changed before anybody could say anything of a studio
        del known.features[STUDIO]
        catalog.UpsertItems(UpsertItemsRequest(items=[known]))

        def stored(name: str = "900") -> Item:
            (found,) = catalog.GetItems(GetItemsRequest(item_ids=[name])).items
            answer: Item = found.item
            return answer

        assert set(stored().features) == {"item_attributes__genres"}
        registry.promote(WIDE)
        wait_until(lambda: deployment(running).active.name == WIDE)
        assert stored().features[STUDIO] == a24
        assert stored("5").features[STUDIO].string_value == "Gaumont"
        assert not catalog.UpsertItems(UpsertItemsRequest(items=asked[:1])).statuses[0].message
        registry.rollback()
        wait_until(lambda: deployment(running).active.name == OLD)
        assert set(stored().features) == {"item_attributes__genres"}
