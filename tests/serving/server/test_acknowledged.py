"""What is acknowledged is visible in every bundle that answers; no catalog looks for changes by itself here."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from structlog.testing import LogCapture

from rf_platform.registry.journal import CatalogJournal
from rf_platform.settings import Settings
from rf_protos.v1.catalog_pb2 import DeleteItemsRequest, Item, UpsertItemsRequest
from rf_protos.v1.catalog_pb2_grpc import CatalogServiceStub
from rf_protos.v1.features_pb2 import FeatureValue, StringList
from rf_protos.v1.retrieval_pb2 import RetrieveRequest

if TYPE_CHECKING:
    from rf_platform.registry import Registry

FIRST, SECOND = "tiny-run-1", "other-run-1"
USERS = [str(user) for user in range(1, 31)]


@pytest.fixture(autouse=True)
def no_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a change that an acknowledgement did not wait for might appear in time by luck."""
    monkeypatch.setattr("rf_serving.catalog.live.POLL_SECONDS", 3600)
    monkeypatch.setattr("rf_serving.threads.NICE", 0)


@pytest.fixture
def running(pair: Settings, start_server: Callable[..., Any]) -> Iterator[Any]:
    """A server that follows the registry, and its CatalogService as ``running.catalog``."""
    with start_server(pair, poll_seconds=0.02) as running:
        running.catalog = CatalogServiceStub(running.channel)  # type: ignore[no-untyped-call]
        yield running


def upsert(running: Any, *names: int) -> list[int]:
    features = {"item_attributes__genres": FeatureValue(string_list=StringList(values=["War"]))}
    items = [Item(item_id=str(name), features=features) for name in names]
    return [status.sequence for status in running.catalog.UpsertItems(UpsertItemsRequest(items=items)).statuses]


def delete(running: Any, *names: int) -> None:
    running.catalog.DeleteItems(DeleteItemsRequest(item_ids=[str(name) for name in names]))


def seen(running: Any, user: str) -> set[int]:
    """All items of the user's answer that were not built in."""
    answer = running.stub.Retrieve(RetrieveRequest(user_id=user, k=100))
    return {int(item.item_id) for item in answer.items if int(item.item_id) > 60}


def share(running: Any, registry: "Registry", wait_until: Callable[..., None]) -> list[str]:
    """Split the users; return one of each bundle's."""
    registry.traffic.split(SECOND, 50)
    wait_until(lambda: running.parts.deployments.serving.percent == 50)
    user_of = {running.stub.Retrieve(RetrieveRequest(user_id=user, k=1)).bundle: user for user in USERS}
    return [user_of[FIRST], user_of[SECOND]]


def test_in_a_split_both_bundles_show_what_was_acknowledged(
    running: Any, pair_registry: "Registry", wait_until: Callable[..., None]
) -> None:
    users = share(running, pair_registry, wait_until)
    for name in range(900, 940):
        upsert(running, name)
        assert [seen(running, user) for user in users] == [{name}, {name}]
        delete(running, name)
        assert [seen(running, user) for user in users] == [set(), set()]


def test_of_several_who_change_items_at_once_each_sees_their_own_changes(
    running: Any, pair_registry: "Registry", wait_until: Callable[..., None]
) -> None:
    users = share(running, pair_registry, wait_until)

    def edit(first: int) -> None:
        for name in range(first, first + 10):
            upsert(running, name)
            assert all(name in seen(running, user) for user in users)
            delete(running, name)
            assert not any(name in seen(running, user) for user in users)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(edit, (900, 920, 940)))


@pytest.mark.parametrize("before", ["not loaded", "shadow", "challenger"])
def test_a_bundle_that_takes_over_has_what_was_acknowledged_until_then(
    running: Any, pair_registry: "Registry", wait_until: Callable[..., None], before: str
) -> None:
    serving = running.parts.deployments
    if before == "shadow":
        pair_registry.traffic.shadow(SECOND, 1.0)
        wait_until(lambda: serving.serving.shadow is not None)
    elif before == "challenger":
        share(running, pair_registry, wait_until)
    upsert(running, 900, 901)
    delete(running, 901)
    pair_registry.promote(SECOND)
    wait_until(lambda: serving.serving.active.name == SECOND)
    assert seen(running, "17") == {900}


def test_nothing_falls_between_the_last_catching_up_and_the_switch(
    pair: Settings,
    running: Any,
    pair_registry: "Registry",
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A change is acknowledged or recorded each time the new bundle has just read the journal."""
    from rf_serving.catalog.live import LiveCatalog

    right, journal = LiveCatalog.catch_up, CatalogJournal.open(pair.platform_registry_url)
    changes: list[Future[list[int]]] = []

    def catch_up(catalog: LiveCatalog) -> int:
        reached = right(catalog)
        if catalog.bundle.name == SECOND and threading.current_thread().name == "rf-deployments":
            last = journal.last()
            changes.append(threads.submit(upsert, running, 900 + len(changes)))
            wait_until(lambda: journal.last() > last)
            with suppress(TimeoutError):  # is not acknowledged before the switch, from some moment on
                changes[-1].result(0.5)
        return reached

    with ThreadPoolExecutor() as threads:
        monkeypatch.setattr(LiveCatalog, "catch_up", catch_up)
        pair_registry.promote(SECOND)
        wait_until(lambda: running.parts.deployments.serving.active.name == SECOND)
        for change in changes:
            change.result()
        assert seen(running, "17") == {900 + n for n in range(len(changes))}
    assert len(changes) >= 2
    journal.close()


def test_an_item_that_one_bundle_cannot_encode_is_missing_there_alone(
    running: Any,
    pair_registry: "Registry",
    wait_until: Callable[..., None],
    logs: LogCapture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rf_serving.catalog.item_encoder import EncodedItems, ItemEncoder

    users = share(running, pair_registry, wait_until)
    right = ItemEncoder.encode

    def fails(encoder: ItemEncoder, items: pa.Table) -> EncodedItems:
        if encoder._bundle.name == SECOND and 901 in items[0].to_pylist():
            raise ValueError("no such genre")
        return right(encoder, items)

    monkeypatch.setattr(ItemEncoder, "encode", fails)
    logs.entries.clear()  # of other tests
    upsert(running, 900, 901, 902)
    assert [seen(running, user) for user in users] == [{900, 901, 902}, {900, 902}]
    delete(running, 900, 901)
    upsert(running, 903)
    assert [seen(running, user) for user in users] == [{902, 903}, {902, 903}]
    challenger = running.parts.deployments.serving.challenger.catalog
    assert (challenger.unfit, challenger.unfit_named) == (1, {"901": "items cannot be encoded"})
    line = next(entry for entry in logs.entries if entry["event"] == "items cannot be encoded")
    assert (line["bundle"], line["item_ids"]) == (SECOND, ["901"])
