"""``rf serve`` killed while it is told to change the catalog: what it acknowledged is there when it is back."""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import grpc
import pytest

from rf_protos.v1.catalog_pb2 import DeleteItemsRequest, GetItemsRequest, Item, UpsertItemsRequest, UpsertStatus
from rf_protos.v1.catalog_pb2_grpc import CatalogServiceStub
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceStub
from rf_serving.background_server import BackgroundServer

ENVIRONMENT = {"RF_FEATURE_REPO": str(Path(__file__).parents[3] / "feature_repo" / "movielens")}
KILLS, WRITERS, ITEMS = 2, 3, 30


@dataclass
class Writer:
    """Changes items of its own, one batch after the other, and notes what was acknowledged."""

    number: int
    make_item: Callable[..., Item]
    acknowledged: dict[str, str | None] = field(default_factory=dict)
    """Title by id; None: deleted."""
    unanswered: list[dict[str, str | None]] = field(default_factory=list)
    """What was asked for since, in vain: it may be there or not."""
    batches: int = 0

    def run(self, address: str) -> None:
        """Write until the server is gone."""
        with grpc.insecure_channel(address) as channel:
            stub = CatalogServiceStub(channel)  # type: ignore[no-untyped-call]
            with suppress(grpc.RpcError):
                while True:
                    self._write(stub)

    def _write(self, stub: CatalogServiceStub) -> None:
        self.batches += 1
        ids = random.sample([str(1000 + ITEMS * self.number + n) for n in range(ITEMS)], random.randint(1, 8))
        deletes = random.random() < 0.3
        wanted: dict[str, str | None] = dict.fromkeys(ids, None if deletes else f"title {self.number} {self.batches}")
        self.unanswered.append(wanted)
        if deletes:
            stub.DeleteItems(DeleteItemsRequest(item_ids=ids))
        else:
            items = [self.make_item(item, title=title) for item, title in wanted.items()]
            response = stub.UpsertItems(UpsertItemsRequest(items=items))
            assert all(status.outcome != UpsertStatus.REJECTED and status.searchable for status in response.statuses)
        self.acknowledged.update(wanted)
        self.unanswered.remove(wanted)

    def check(self, found: dict[str, str]) -> None:
        """Compare with the items that the server has."""
        for item, title in self.acknowledged.items():
            allowed = {title} | {wanted[item] for wanted in self.unanswered if item in wanted}
            assert found.get(item) in allowed, item


@pytest.mark.timeout(900)  # a server takes seconds to start, and many more on a machine that does other things too
def test_kills_of_a_server_lose_nothing_that_was_acknowledged(home_copy: Path, make_item: Callable[..., Item]) -> None:
    writers = [Writer(number, make_item) for number in range(WRITERS)]
    for kill in range(KILLS + 1):
        with BackgroundServer(home_copy, environment=ENVIRONMENT, start_seconds=200) as server:
            with grpc.insecure_channel(server.address) as channel:
                _check(channel, writers)
            if kill == KILLS:
                break
            threads = [Thread(target=writer.run, args=(server.address,)) for writer in writers]
            before = sum(writer.batches for writer in writers)
            for thread in threads:
                thread.start()
            while sum(writer.batches for writer in writers) < before + 20:
                time.sleep(0.001)
            time.sleep(random.uniform(0, 0.3))
            server.process.kill()
            for thread in threads:
                thread.join()
    assert sum(len(writer.acknowledged) for writer in writers) > 50


def _check(channel: grpc.Channel, writers: list[Writer]) -> None:
    ids = [str(1000 + n) for n in range(WRITERS * ITEMS)]
    stub = CatalogServiceStub(channel)  # type: ignore[no-untyped-call]
    items = stub.GetItems(GetItemsRequest(item_ids=ids)).items
    found = {i.item.item_id: i.item.features["item_attributes__title"].string_value for i in items}
    retrieve = RetrievalServiceStub(channel)  # type: ignore[no-untyped-call]
    answer = retrieve.Retrieve(RetrieveRequest(user_id="9", k=1000))
    assert {item.item_id for item in answer.items} == {str(n) for n in range(1, 61)} | set(found)
    for writer in writers:
        writer.check(found)
        # What this server has is what the next one must have.
        own = {item for item in ids if (int(item) - 1000) // ITEMS == writer.number}
        writer.acknowledged = {item: found.get(item) for item in own}
        writer.unanswered.clear()
