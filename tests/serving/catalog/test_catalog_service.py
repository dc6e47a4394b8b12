"""CatalogService of a real server over gRPC; every test has items of its own."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from time import sleep
from typing import Any

import grpc
import numpy as np
import pytest
from structlog.testing import LogCapture

from rf_platform.settings import Settings
from rf_protos.v1.catalog_pb2 import (
    DeleteItemsRequest,
    DeleteStatus,
    GetItemsRequest,
    Item,
    UpsertItemsRequest,
    UpsertItemsResponse,
    UpsertStatus,
)
from rf_protos.v1.catalog_pb2_grpc import CatalogServiceStub
from rf_protos.v1.features_pb2 import FeatureValue, StringList
from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, Session
from rf_serving.bundle.served import ServedBundle

MakeItem = Callable[..., Item]
REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
ADDED, CHANGED, UNCHANGED, REJECTED = (
    UpsertStatus.ADDED,
    UpsertStatus.CHANGED,
    UpsertStatus.UNCHANGED,
    UpsertStatus.REJECTED,
)
DELETED, ABSENT = DeleteStatus.DELETED, DeleteStatus.ABSENT
WAR = {"title": "War again", "genres": ["War"], "release_year": 1990, "title_words": ["war", "king"]}


@pytest.fixture
def upsert(catalog: Any) -> Callable[..., UpsertItemsResponse]:
    def call(*items: Item, neighbours: int = 0) -> UpsertItemsResponse:
        response: UpsertItemsResponse = catalog.UpsertItems(UpsertItemsRequest(items=items, neighbours=neighbours))
        return response

    return call


def outcomes(response: Any) -> list[int]:
    return [status.outcome for status in response.statuses]


def all_items(running: Any, **asked: Any) -> list[str]:
    response = running.stub.Retrieve(RetrieveRequest(user_id="9", k=1000, **asked))
    return [item.item_id for item in response.items]


def test_an_item_that_is_added_is_searchable_at_once(
    running: Any, upsert: Callable[..., UpsertItemsResponse], make_item: MakeItem
) -> None:
    assert "100" not in all_items(running)
    response = upsert(make_item(100, **WAR))
    (status,) = response.statuses
    assert (status.item_id, status.outcome, status.message, status.searchable) == ("100", ADDED, "", True)
    assert response.bundle == "tiny-run-1"
    assert "100" in all_items(running)
    answer = running.stub.Retrieve(RetrieveRequest(session=Session(history=[Interaction(item_id="100")]), k=5))
    assert answer.catalog_sequence == status.sequence > 0


def test_the_same_again_changes_nothing_and_tells_the_first_number(
    upsert: Callable[..., UpsertItemsResponse], make_item: MakeItem
) -> None:
    first = upsert(make_item(110, **WAR)).statuses[0]
    again = upsert(make_item(110, **dict(reversed(WAR.items())))).statuses[0]
    assert (first.outcome, again.outcome, again.sequence) == (ADDED, UNCHANGED, first.sequence)
    changed = upsert(make_item(110, **{**WAR, "genres": ["Comedy"]})).statuses[0]
    assert (changed.outcome, changed.sequence) == (CHANGED, first.sequence + 1)


def test_an_item_of_the_bundle_sent_as_it_is_is_unchanged(
    catalog: Any, upsert: Callable[..., UpsertItemsResponse], make_item: MakeItem
) -> None:
    (as_built,) = catalog.GetItems(GetItemsRequest(item_ids=["20"])).items
    assert as_built.sequence == 0
    assert not as_built.cold
    assert as_built.item.features["item_attributes__title"].string_value == "Movie 20"
    (status,) = upsert(as_built.item).statuses
    assert (status.outcome, status.sequence, status.searchable) == (UNCHANGED, 0, True)
    assert outcomes(upsert(make_item(20, **WAR))) == [CHANGED]
    (now,) = catalog.GetItems(GetItemsRequest(item_ids=["20"])).items
    assert now.item.features["item_attributes__title"].string_value == "War again"
    assert outcomes(upsert(as_built.item)) == [CHANGED]


def test_a_deleted_item_is_never_returned_until_it_is_added_anew(
    running: Any, catalog: Any, upsert: Callable[..., UpsertItemsResponse], make_item: MakeItem
) -> None:
    upsert(make_item(120, **WAR))
    response = catalog.DeleteItems(DeleteItemsRequest(item_ids=["120", "30", "99999"]))
    assert outcomes(response) == [DELETED, DELETED, ABSENT]
    assert not {"120", "30"} & set(all_items(running))
    again = catalog.DeleteItems(DeleteItemsRequest(item_ids=["120", "30", "99999"]))
    assert outcomes(again) == [ABSENT] * 3
    assert [s.sequence for s in again.statuses] == [s.sequence for s in response.statuses]
    assert list(catalog.GetItems(GetItemsRequest(item_ids=["120", "31", "30"])).absent) == ["120", "30"]
    # A history may still hold it.
    session = Session(history=[Interaction(item_id="30"), Interaction(item_id="31")])
    answer = running.stub.Retrieve(RetrieveRequest(session=session, k=1000, return_history=True))
    assert list(answer.history) == ["30", "31"]
    assert "30" not in [item.item_id for item in answer.items]
    assert outcomes(upsert(make_item(30, **WAR))) == [ADDED]
    assert "30" in all_items(running)


def test_wrong_items_are_rejected_by_field_and_the_others_go_in(
    catalog: Any, upsert: Callable[..., UpsertItemsResponse], make_item: MakeItem
) -> None:
    wrong = Item(item_id="133", features={"item_attributes__genres": FeatureValue(string_value="War")})
    response = upsert(
        make_item(130, **WAR),
        make_item("abc", **WAR),
        make_item(131, price=3),
        wrong,
        make_item(130, title="twice"),
        make_item("", **WAR),
        make_item(132),
    )
    assert outcomes(response) == [ADDED, REJECTED, REJECTED, REJECTED, REJECTED, REJECTED, ADDED]
    for place, message in {
        1: "items[1].item_id: 'abc' is not an id here",
        2: 'items[2].features["item_attributes__price"]: there is no such feature',
        3: "items[3].features[\"item_attributes__genres\"]: 'War' is no list, which Array(String) is",
        4: "items[4].item_id: '130' is given before, as items[0].item_id; give each id once",
        5: "items[5].item_id: must not be empty",
    }.items():
        assert response.statuses[place].message.startswith(message)
        assert response.statuses[place].sequence == 0
    found = catalog.GetItems(GetItemsRequest(item_ids=["130", "131", "132", "133", "abc"]))
    assert [item.item.item_id for item in found.items] == ["130", "132"]
    assert list(found.absent) == ["131", "133", "abc"]
    assert [item.cold for item in found.items] == [True, True]
    assert found.items[0].item.features["item_attributes__genres"] == FeatureValue(
        string_list=StringList(values=["War"])
    )
    deleted = catalog.DeleteItems(DeleteItemsRequest(item_ids=["130", "x", "130"]))
    assert outcomes(deleted) == [DELETED, DeleteStatus.REJECTED, DeleteStatus.REJECTED]
    assert deleted.statuses[1].message.startswith("item_ids[1]: 'x' is not an id here")


def test_neighbours_are_the_nearest_by_cosine(
    running: Any, bundle: ServedBundle, upsert: Callable[..., UpsertItemsResponse], make_item: MakeItem
) -> None:
    response = upsert(make_item(140, **WAR), make_item(141, **WAR), make_item(142, title="other"), neighbours=3)
    snapshot = running.retriever.engine.catalog.snapshot
    width = bundle.model.config.dim
    rows = np.flatnonzero(snapshot.live_mask_N)
    unit = snapshot.vectors(rows)[:, :width]
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    texts = snapshot.texts(rows)
    for status in response.statuses:
        cosine = unit @ unit[texts.index(status.item_id)]
        cosine[texts.index(status.item_id)] = -2
        best = np.sort(cosine)[::-1][:3]
        np.testing.assert_allclose([n.similarity for n in status.neighbours], best, atol=1e-5)
        np.testing.assert_allclose([cosine[texts.index(n.item_id)] for n in status.neighbours], best, atol=1e-5)
        assert status.searchable
    assert response.statuses[0].neighbours[0].similarity == pytest.approx(1)


@pytest.mark.parametrize(
    ("method", "request_", "message"),
    [
        ("UpsertItems", UpsertItemsRequest(), "items: must not be empty"),
        ("UpsertItems", UpsertItemsRequest(items=[Item(item_id="1")] * 101), "items: 101 are given"),
        ("UpsertItems", UpsertItemsRequest(items=[Item(item_id="1")], neighbours=101), "neighbours: 101 is not"),
        ("DeleteItems", DeleteItemsRequest(item_ids=["1"] * 101), "item_ids: 101 are given"),
        ("GetItems", GetItemsRequest(), "item_ids: must not be empty"),
    ],
)
def test_requests_that_are_wrong_as_a_whole(catalog: Any, method: str, request_: Any, message: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        getattr(catalog, method)(request_)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (raised.value.details() or "").startswith(message)


@pytest.mark.usefixtures("without_others")
def test_many_callers_at_once_all_find_their_items(catalog: Any, make_item: MakeItem, running: Any) -> None:
    calls = [
        catalog.UpsertItems.future(UpsertItemsRequest(items=[make_item(1000 + 10 * n + i, **WAR) for i in range(10)]))
        for n in range(30)
    ]
    statuses = [status for call in calls for status in call.result().statuses]
    assert {status.outcome for status in statuses} == {ADDED}
    assert len({status.sequence for status in statuses}) == 300
    assert {str(n) for n in range(1000, 1300)} <= set(all_items(running))
    catalog.DeleteItems(DeleteItemsRequest(item_ids=[str(n) for n in range(1000, 1100)]))
    assert not {str(n) for n in range(1000, 1100)} & set(all_items(running))


def test_metrics_tell_the_size_of_the_catalog(
    running: Any, catalog: Any, upsert: Callable[..., UpsertItemsResponse], make_item: MakeItem
) -> None:
    def read() -> list[float]:
        names = ("items", "sequence", "delta_rows", "dead_rows")
        return [running.metrics.registry.get_sample_value(f"rf_catalog_{name}") or 0.0 for name in names]

    before = read()
    upsert(make_item(170, **WAR), make_item(171, **WAR))
    catalog.DeleteItems(DeleteItemsRequest(item_ids=["40", "170"]))
    assert np.subtract(read(), before).tolist() == [0, 4, 2, 1]


def test_without_the_registry_answers_go_on_and_changes_are_refused(
    running: Any,
    catalog: Any,
    workspace: Path,
    make_item: MakeItem,
    upsert: Callable[..., UpsertItemsResponse],
    logs: LogCapture,
) -> None:
    logs.entries.clear()  # of other tests
    before = all_items(running)
    with closing(sqlite3.connect(workspace / "registry.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        call = catalog.UpsertItems.future(UpsertItemsRequest(items=[make_item(150, **WAR)]), timeout=30)
        assert all_items(running) == before
        assert call.code() is grpc.StatusCode.UNAVAILABLE
        assert call.details().startswith("a store behind the server cannot be used at the moment; try again")
        for _ in range(200):  # the log has it after the caller
            if lines := [entry for entry in logs.entries if entry.get("status") == "UNAVAILABLE"]:
                break
            sleep(0.05)
        (line,) = lines[-1:]
        assert "database is locked" in line["error"] + line["cause"]
        assert all_items(running) == before
        assert list(catalog.GetItems(GetItemsRequest(item_ids=["150"])).absent) == ["150"]
        other.execute("COMMIT")
    assert outcomes(upsert(make_item(150, **WAR))) == [ADDED]


def test_a_second_server_has_what_the_first_was_told(
    running: Any, workspace: Path, start_server: Callable[..., Any], make_item: MakeItem, catalog: Any
) -> None:
    with start_server(Settings(home=workspace, feature_repo=REPOSITORY)) as second:
        stub = CatalogServiceStub(second.channel)  # type: ignore[no-untyped-call]
        told = stub.UpsertItems(UpsertItemsRequest(items=[make_item(160, **WAR)]))
        assert told.statuses[0].outcome == ADDED
        for _ in range(200):
            if "160" in all_items(running):
                break
        else:
            pytest.fail("the first server never had it")
        again = catalog.UpsertItems(UpsertItemsRequest(items=[make_item(160, **WAR)]))
        assert (again.statuses[0].outcome, again.statuses[0].sequence) == (UNCHANGED, told.statuses[0].sequence)
