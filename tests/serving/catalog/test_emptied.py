"""A catalog from which everything was removed goes on answering, also after a restart, and takes new items."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rf_platform.settings import Settings
from rf_protos.v1.catalog_pb2 import DeleteItemsRequest, GetItemsRequest, Item, UpsertItemsRequest, UpsertStatus
from rf_protos.v1.catalog_pb2_grpc import CatalogServiceStub
from rf_protos.v1.features_pb2 import FeatureValue
from rf_protos.v1.filter_pb2 import Filter, Predicate
from rf_protos.v1.retrieval_pb2 import RERANK_EXACT, RetrieveRequest, Session

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
ITEMS = [str(item) for item in range(1, 61)]
YEAR = FeatureValue(int_value=1900)
REQUESTS = {
    "user": RetrieveRequest(user_id="17", k=5, exclude_seen=True, return_history=True),
    "session": RetrieveRequest(session=Session(), k=100),
    "filter": RetrieveRequest(
        user_id="17",
        k=5,
        filter=Filter(
            where=[Predicate(feature="item_attributes__release_year", operator=Predicate.AT_LEAST, value=YEAR)]
        ),
    ),
    "lists": RetrieveRequest(user_id="17", k=5, filter=Filter(allow_items=["1", "2"], deny_items=["1"])),
    "explained": RetrieveRequest(user_id="17", k=5, rerank=RERANK_EXACT, explain=True),
}

NOTHING: dict[str, list[str]] = {name: [] for name in REQUESTS}


def answers(running: Any) -> dict[str, list[str]]:
    return {name: [item.item_id for item in running.stub.Retrieve(ask).items] for name, ask in REQUESTS.items()}


def test_an_emptied_catalog_answers_and_fills_again(
    home_copy: Path, start_server: Callable[..., Any], make_item: Callable[..., Item]
) -> None:
    settings = Settings(home=home_copy, feature_repo=REPOSITORY)
    with start_server(settings) as running:
        catalog = CatalogServiceStub(running.channel)  # type: ignore[no-untyped-call]
        catalog.DeleteItems(DeleteItemsRequest(item_ids=ITEMS))
        assert answers(running) == NOTHING
    with start_server(settings) as running:  # one that starts on nothing
        catalog = CatalogServiceStub(running.channel)  # type: ignore[no-untyped-call]
        assert running.retriever.engine.catalog.snapshot.alive == 0
        assert answers(running) == NOTHING
        got = catalog.GetItems(GetItemsRequest(item_ids=["1", "999"]))
        assert (list(got.items), list(got.absent)) == ([], ["1", "999"])
        new = make_item(1, title="first", genres=["War"], release_year=1990)
        (status,) = catalog.UpsertItems(UpsertItemsRequest(items=[new], neighbours=3)).statuses
        assert (status.outcome, status.searchable, list(status.neighbours)) == (UpsertStatus.ADDED, True, [])
        expected = {name: [] if name == "lists" else ["1"] for name in REQUESTS}
        history = running.stub.Retrieve(REQUESTS["user"]).history
        expected["user"] = [] if "1" in history else ["1"]
        assert answers(running) == expected
