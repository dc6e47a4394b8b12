"""Changes of some fields of items, and lists of all ids, through CatalogService."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from rf_platform.registry.journal import CatalogJournal, Change, canonical_json
from rf_protos.v1.catalog_pb2 import (
    DeleteItemsRequest,
    GetItemsRequest,
    Item,
    ListItemsRequest,
    UpsertItemsRequest,
    UpsertItemsResponse,
    UpsertStatus,
)

MakeItem = Callable[..., Item]
WAR = {"title": "War again", "genres": ["War"], "release_year": 1990, "title_words": ["war", "king"]}
GENRES, TITLE, YEAR = "item_attributes__genres", "item_attributes__title", "item_attributes__release_year"
ADDED, CHANGED, UNCHANGED, REJECTED = (
    UpsertStatus.ADDED,
    UpsertStatus.CHANGED,
    UpsertStatus.UNCHANGED,
    UpsertStatus.REJECTED,
)


@pytest.fixture
def change(catalog: Any, make_item: MakeItem) -> Callable[..., UpsertStatus]:
    """Change some fields of an item; fields of the mask without a value become missing."""

    def call(item_id: int, *cleared: str, validate_only: bool = False, **given: Any) -> UpsertStatus:
        item = make_item(item_id, **given)
        item.update_mask.extend([*item.features, *cleared])
        response: UpsertItemsResponse = catalog.UpsertItems(
            UpsertItemsRequest(items=[item], validate_only=validate_only)
        )
        return response.statuses[0]

    return call


@pytest.fixture
def features(catalog: Any) -> Callable[[int], dict[str, Any]]:
    def call(item_id: int) -> dict[str, Any]:
        (found,) = catalog.GetItems(GetItemsRequest(item_ids=[str(item_id)])).items
        return dict(found.item.features)

    return call


def test_other_fields_stay_and_cleared_ones_go(change: Any, features: Any, catalog: Any, make_item: MakeItem) -> None:
    catalog.UpsertItems(UpsertItemsRequest(items=[make_item(700, **WAR)]))
    before = features(700)
    assert change(700, release_year=1999).outcome == CHANGED
    assert features(700) == {**before, YEAR: features(700)[YEAR]}
    assert features(700)[YEAR].int_value == 1999
    assert change(700, release_year=1999).outcome == UNCHANGED
    assert change(700, YEAR).outcome == CHANGED
    assert YEAR not in features(700)
    # Of an item that is as the bundle has it, too.
    built = features(21)
    assert change(21, title="Another").outcome == CHANGED
    assert features(21) == {**built, TITLE: features(21)[TITLE]}


def test_what_a_mask_cannot_be(change: Any, catalog: Any, make_item: MakeItem, features: Any) -> None:
    absent = change(701, release_year=1999)
    assert (absent.outcome, absent.sequence) == (REJECTED, 0)
    assert "the catalog has no such item" in absent.message
    catalog.UpsertItems(UpsertItemsRequest(items=[make_item(702, genres=["War"])]))
    unknown = change(702, "release_year")
    assert unknown.message == (f"items[0].update_mask[0]: there is no field 'release_year'; did you mean {YEAR}?")
    item = make_item(702, release_year=1990, genres=["War"])
    item.update_mask.append(GENRES)
    (beyond,) = catalog.UpsertItems(UpsertItemsRequest(items=[item])).statuses
    assert f"{YEAR!r} is given and not in update_mask" in beyond.message
    assert list(features(702)) == [GENRES]


def test_writers_of_different_fields_lose_nothing(
    change: Any, features: Any, catalog: Any, make_item: MakeItem
) -> None:
    catalog.UpsertItems(UpsertItemsRequest(items=[make_item(703, **WAR)]))
    with ThreadPoolExecutor(4) as threads:
        years = [threads.submit(change, 703, release_year=1900 + n) for n in range(8)]
        titles = [threads.submit(change, 703, title=f"T{n}") for n in range(8)]
    last_year = max((f.result().sequence, 1900 + n) for n, f in enumerate(years))[1]
    last_title = max((f.result().sequence, f"T{n}") for n, f in enumerate(titles))[1]
    assert (features(703)[YEAR].int_value, features(703)[TITLE].string_value) == (last_year, last_title)


def test_what_would_become_of_items_changes_nothing(
    change: Any, features: Any, catalog: Any, make_item: MakeItem
) -> None:
    items = [
        make_item(704, **WAR),
        make_item(22, **WAR),
        catalog.GetItems(GetItemsRequest(item_ids=["23"])).items[0].item,
    ]
    before = catalog.ListItems(ListItemsRequest()).catalog_sequence
    response = catalog.UpsertItems(UpsertItemsRequest(items=items, validate_only=True))
    assert [status.outcome for status in response.statuses] == [ADDED, CHANGED, UNCHANGED]
    assert change(22, validate_only=True, release_year=1234).outcome == CHANGED
    assert catalog.ListItems(ListItemsRequest()).catalog_sequence == before
    assert features(22)[TITLE].string_value == "Movie 22"


def test_all_ids_in_pages(catalog: Any, make_item: MakeItem) -> None:
    catalog.UpsertItems(UpsertItemsRequest(items=[make_item(n, **WAR) for n in (1000, -5, 24)]))
    catalog.DeleteItems(DeleteItemsRequest(item_ids=["25"]))
    whole = catalog.ListItems(ListItemsRequest())
    ids = [int(item) for item in whole.item_ids]
    assert ids == sorted(ids)
    assert {1000, -5, 24, 26} <= set(ids)
    assert 25 not in ids
    assert len(ids) == len(set(ids))
    paged: list[str] = []
    token = ""
    while True:
        page = catalog.ListItems(ListItemsRequest(page_size=7, page_token=token))
        paged += page.item_ids
        token = page.next_page_token
        if not token:
            break
        assert len(page.item_ids) == 7
    assert paged == list(whole.item_ids)
    for request, field in (
        (ListItemsRequest(page_size=10_001), "page_size"),
        (ListItemsRequest(page_token="x"), "page_token"),
    ):
        with pytest.raises(grpc.RpcError) as wrong:
            catalog.ListItems(request)
        assert str(wrong.value.details()).startswith(f"{field}: ")


def test_a_change_keeps_what_the_served_bundle_does_not_know(tmp_path: Path) -> None:
    journal = CatalogJournal.open(f"sqlite:///{tmp_path / 'registry.db'}")
    whole = canonical_json({"a": 1, "later": "kept"})
    year = Change(item_id="1", features=canonical_json({"a": 2}), partial=True, built=canonical_json({"a": 0}))
    gone = Change(item_id="2", features=canonical_json({"a": 2}), partial=True)
    ((first, second, absent),) = journal.record([[Change(item_id="1", features=whole), year, gone]])
    assert (first.sequence, second.sequence, second.before, absent.sequence) == (1, 2, whole, 0)
    assert (absent.before, absent.fresh) == (None, False)
    assert [entry.features for entry in journal.newest()] == [canonical_json({"a": 2, "later": "kept"})]
    journal.close()
