"""SimilarItems of a real server, against cosines computed by hand."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest

from rf_protos.v1.catalog_pb2 import DeleteItemsRequest, Item, UpsertItemsRequest
from rf_protos.v1.features_pb2 import FeatureValue, StringList
from rf_protos.v1.filter_pb2 import Filter, Predicate
from rf_protos.v1.retrieval_pb2 import SimilarItemsRequest, SimilarItemsResponse

GENRES = "item_attributes__genres"
WAR = {"genres": ["War"], "release_year": 1990, "title_words": ["king", "love"]}


def expected(running: Any, asked: list[int], k: int, leave_out: frozenset[int] = frozenset()) -> list[str]:
    """Ids by mean cosine with the items asked about, by brute force over the living rows."""
    snapshot = running.retriever.engine.catalog.snapshot
    rows = np.flatnonzero(snapshot.live_mask_N)
    vectors_ND = snapshot.vectors(rows).astype(np.float64)
    if running.retriever.bundle.model.biased:
        vectors_ND = vectors_ND[:, :-1]
    ids = [int(text) for text in snapshot.texts(rows.tolist())]
    unit = {item: v / np.linalg.norm(v) for item, v in zip(ids, vectors_ND, strict=True)}
    score = {item: float(np.mean([unit[each] @ v for each in asked])) for item, v in unit.items()}
    ranked = sorted((item for item in ids if item not in {*asked, *leave_out}), key=lambda item: -score[item])
    return [str(item) for item in ranked[:k]]


def similar(running: Any, *items: int, k: int = 10, **given: Any) -> SimilarItemsResponse:
    request = SimilarItemsRequest(item_ids=map(str, items), k=k, **given)
    response: SimilarItemsResponse = running.stub.SimilarItems(request)
    return response


def ids(response: SimilarItemsResponse) -> list[str]:
    return [item.item_id for item in response.items]


@pytest.mark.both_fronts
@pytest.mark.parametrize("asked", [[3], [3, 9, 17]])
def test_items_come_by_mean_cosine_without_those_asked_about(server: Any, asked: list[int]) -> None:
    answer = similar(server, *asked)
    assert ids(answer) == expected(server, asked, 10)
    assert ids(similar(server, *asked, k=100)) == expected(server, asked, 57 if len(asked) == 3 else 59)
    assert [item.score for item in answer.items] == [item.cosine for item in answer.items]
    assert answer.bundle == "tiny-run-1"
    assert [t.stage for t in answer.timings] == ["encode", "filter", "search"]
    assert b'rf_answer_paths_total{path="similar"}' in _metrics(server)


def test_a_filter_holds_and_the_answer_is_not_short(server: Any) -> None:
    war = Predicate(feature=GENRES, operator=Predicate.ANY_OF, value=FeatureValue(string_value="War"))
    answer = similar(server, 3, k=60, filter=Filter(where=[war], deny_items=["9"]))
    everything = expected(server, [3], 60)
    by_item = dict(zip(range(1, 61), server.retriever.engine.catalog.snapshot.values(np.arange(60)), strict=True))
    assert ids(answer) == [i for i in everything if "War" in by_item[int(i)][GENRES] and i != "9"]


def test_what_the_same_users_took_has_the_share_that_is_asked_for(server: Any, tables: Path) -> None:
    """Against user sets of the imported table, by hand; items without common users follow by cosine."""
    users: dict[int, set[int]] = {}
    table = pq.read_table(tables / "interactions.parquet")
    for user, item in zip(table["user_id"].to_pylist(), table["item_id"].to_pylist(), strict=True):
        users.setdefault(item, set()).add(user)
    wait_until(lambda: similar(server, 3, k=5, co_occurrence_share=1).co_occurrence_share == 1)
    asked = [3, 9]
    everything = {int(i.item_id): i.cosine for i in similar(server, *asked, k=100).items}

    def together(item: int) -> float:
        theirs = users.get(item, set())
        each: list[float] = [len(users[a] & theirs) / ((len(users[a]) * len(theirs)) ** 0.5 + 20) for a in asked]
        return sum(each) / len(each)

    for share in (0.4, 1.0):
        answer = similar(server, *asked, k=100, co_occurrence_share=share)
        score = {item: (1 - share) * cosine + share * together(item) for item, cosine in everything.items()}
        assert ids(answer) == [str(i) for i in sorted(score, key=lambda i: (-score[i], -everything[i]))]
        for found in answer.items:
            assert found.score == pytest.approx(score[int(found.item_id)], abs=1e-6)
            assert found.co_occurrence == pytest.approx(together(int(found.item_id)), abs=1e-6)
        assert answer.co_occurrence_share == pytest.approx(share)
    new = {GENRES: FeatureValue(string_list=StringList(values=["War"]))}
    of_features = server.stub.SimilarItems(SimilarItemsRequest(features=new, k=3, co_occurrence_share=1))
    assert (of_features.co_occurrence_share, len(of_features.items)) == (0, 3)


@pytest.mark.usefixtures("without_others")
def test_an_item_of_no_catalog_is_found_by_its_features_as_if_it_were_in_it(
    running: Any, catalog: Any, make_item: Callable[..., Item]
) -> None:
    item = make_item(901, **WAR)
    by_features = running.stub.SimilarItems(SimilarItemsRequest(features=item.features, k=5))
    catalog.UpsertItems(UpsertItemsRequest(items=[item]))
    by_id = similar(running, 901, k=5)
    assert ids(by_features) == ids(by_id)
    assert np.allclose([i.score for i in by_features.items], [i.score for i in by_id.items], atol=1e-5)


@pytest.mark.usefixtures("without_others")
def test_upserted_items_come_back_and_deleted_ones_do_not(
    running: Any, catalog: Any, make_item: Callable[..., Item]
) -> None:
    catalog.UpsertItems(UpsertItemsRequest(items=[make_item(902, **WAR), make_item(903, **WAR)]))
    assert "903" in ids(similar(running, 902, k=3))
    catalog.DeleteItems(DeleteItemsRequest(item_ids=["903"]))
    answer = similar(running, 902, 903, k=100)
    assert not {"902", "903"} & set(ids(answer))
    assert answer.absent == ["903"]
    assert ids(answer) == expected(running, [902], 100)


@pytest.mark.both_fronts
@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (SimilarItemsRequest(k=5), "item_ids: give the items that others are to be like"),
        (SimilarItemsRequest(k=5, item_ids=["1"], features={GENRES: FeatureValue()}), "item_ids: give the items"),
        (SimilarItemsRequest(item_ids=["1"]), "k: 0 is not possible"),
        (SimilarItemsRequest(item_ids=["1"], k=1, co_occurrence_share=1.5), "co_occurrence_share: 1.5 is not possible"),
        (SimilarItemsRequest(item_ids=["1"], k=101), "k: 101 is not possible; ask for 1 to 100"),
        (SimilarItemsRequest(item_ids=["1", "x"], k=5), r"item_ids\[1\]: 'x' is not an id here"),
        (SimilarItemsRequest(item_ids=["1"] * 101, k=5), "item_ids: 101 are given; the limit is 100"),
        (SimilarItemsRequest(item_ids=["777"], k=5), "item_ids: the catalog has no '777'; to ask about an item"),
        (
            SimilarItemsRequest(features={"genre": FeatureValue(string_value="War")}, k=5),
            r'features\["genre"\]: there is no',
        ),
        (
            SimilarItemsRequest(
                features={GENRES: FeatureValue(string_list=StringList())}, k=5, filter=Filter(where=[Predicate()])
            ),
            r"filter.where\[0\].feature",
        ),
    ],
)
def test_what_is_wrong_is_named(server: Any, request_: SimilarItemsRequest, message: str) -> None:
    with pytest.raises(grpc.RpcError, match=message) as raised:
        server.stub.SimilarItems(request_)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def wait_until(asked: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not asked():
        assert time.monotonic() < end
        time.sleep(0.05)


def _metrics(server: Any) -> bytes:
    from prometheus_client import generate_latest

    return generate_latest(server.metrics.registry)
