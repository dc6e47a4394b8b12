"""A bundle with its index in Milvus: built, promoted, served, changed while it is served, and while Milvus is away."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rf_platform.errors import IndexAwayError
from rf_platform.settings import Settings
from rf_protos.v1.filter_pb2 import Filter
from rf_protos.v1.retrieval_pb2 import (
    DEGRADED_INDEX_SILENT,
    DEGRADED_REASON_UNSPECIFIED,
    RetrieveRequest,
    SearchPlan,
)


@pytest.fixture
def workspace(home_copy: Path, settings: Settings, milvus: Any) -> Settings:
    """The workspace with a bundle in files, promoted, and one of the same run in Milvus."""
    from rf_platform.registry import Registry
    from rf_serving.bundle.build import IndexOptions, build_bundle

    own = settings.model_copy(update={"home": home_copy, "index_url": milvus.url})
    built = build_bundle(Registry.of(own), own.workspace.bundles, "tiny-run", IndexOptions(kind="milvus"), name="far")
    assert built.index["kind"] == "milvus"
    assert built.index["recall@20"] > 0.95
    assert "item_features__genres" in str(built.index["filters"]) or built.index["filters"]
    return own


@pytest.fixture
def far(workspace: Settings, start_server: Callable[..., Any]) -> Iterator[Any]:
    with start_server(workspace, bundle="far") as running:
        yield running


def ask(stub: Any, user: str = "3", **options: Any) -> Any:
    return stub.Retrieve(RetrieveRequest(user_id=user, k=10, **options))


def test_answers_are_those_of_the_bundle_in_files(workspace: Settings, start_server: Callable[..., Any]) -> None:
    with start_server(workspace, bundle="far") as far, start_server(workspace, bundle="tiny-run-1") as near:
        for user in ("3", "17", "30"):
            for options in ({}, {"exclude_seen": True}):
                one, other = ask(far.stub, user, **options), ask(near.stub, user, **options)
                assert [item.item_id for item in one.items] == [item.item_id for item in other.items]
                assert one.degraded_reason == DEGRADED_REASON_UNSPECIFIED
        assert one.plan.strategy == SearchPlan.APPROXIMATE
        assert other.plan.strategy == SearchPlan.EXACT


def test_a_new_item_is_found_and_a_deleted_one_is_not(far: Any) -> None:
    from rf_protos.v1.catalog_pb2 import DeleteItemsRequest
    from rf_protos.v1.catalog_pb2_grpc import CatalogServiceStub

    first = ask(far.stub).items[0].item_id
    catalog: Any = CatalogServiceStub(far.channel)  # type: ignore[no-untyped-call]
    catalog.DeleteItems(DeleteItemsRequest(item_ids=[first]))
    deadline = time.monotonic() + 30
    while first in [item.item_id for item in ask(far.stub).items]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(ask(far.stub).items) == 10


def test_while_milvus_is_away_answers_are_degraded_and_then_whole_again(
    far: Any, milvus: Any, monkeypatch: Any
) -> None:
    whole = ask(far.stub)
    monkeypatch.setattr("rf_serving.index.milvus_server.SEARCH_SECONDS", 0.5)
    milvus.kill()
    try:
        answers = [ask(far.stub) for _ in range(5)]
        for answer in answers:
            assert answer.degraded_reason == DEGRADED_INDEX_SILENT
            assert answer.plan.strategy == SearchPlan.POPULAR
            assert len(answer.items) == 10
        denied = [item.item_id for item in answers[0].items]
        assert not {i.item_id for i in ask(far.stub, filter=Filter(deny_items=denied)).items} & set(denied)
    finally:
        milvus.start()
    monkeypatch.setattr("rf_serving.index.milvus_server.SEARCH_SECONDS", 30.0)
    deadline = time.monotonic() + 60
    while (answer := ask(far.stub)).degraded_reason != DEGRADED_REASON_UNSPECIFIED:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert [item.item_id for item in answer.items] == [item.item_id for item in whole.items]


def test_a_server_does_not_start_without_milvus_and_says_so(
    workspace: Settings, start_server: Callable[..., Any], milvus: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("rf_serving.index.milvus_server.OTHER_SECONDS", 0.5)
    milvus.kill()
    try:
        with (
            pytest.raises(IndexAwayError, match=r"opening the index: Milvus at .* fails"),
            start_server(workspace, bundle="far"),
        ):
            pass
    finally:
        milvus.start()


def test_a_removed_bundle_takes_its_collection_along(workspace: Settings) -> None:
    from rf_platform.bundle import read_manifest
    from rf_serving.commands.gc import _collections, _drop
    from rf_serving.index.milvus_server import MilvusServer

    path = workspace.workspace.bundles / "far"
    (name,) = _collections([path, workspace.workspace.bundles / "tiny-run-1"])
    assert read_manifest(path).index.model_dump()["collection"] == name
    _drop(name)
    assert name not in MilvusServer.configured().call("looking", "list_collections")


def test_a_compaction_by_its_process_writes_into_the_collection(workspace: Settings, milvus: Any) -> None:
    """The real builder: what was added is found in Milvus, what was deleted is gone from it, and no collection is made."""
    from contextlib import closing

    from rf_platform.registry.journal import CatalogJournal, Change
    from rf_serving.bundle.served import ServedBundle
    from rf_serving.catalog.compaction.compactor import Compaction
    from rf_serving.catalog.item_schema import ItemSchema
    from rf_serving.catalog.live import LiveCatalog
    from rf_serving.index import MilvusIndex
    from rf_serving.index.milvus_server import MilvusServer

    bundle = ServedBundle.open(workspace.workspace.bundles / "far")
    schema = ItemSchema.of(bundle.encoder)
    before = MilvusServer.configured().call("looking", "list_collections")
    with closing(CatalogJournal.open(workspace.platform_registry_url)) as journal:
        new = [Change(item_id=str(n), features=schema.text({})) for n in range(100, 130)]
        journal.record([[*new, Change(item_id="9", features=None, built=schema.text({}))]])
        soon = Compaction(rows=20, niceness=0)
        with closing(
            LiveCatalog.open(bundle, journal, workspace.workspace.cache / "catalog", compaction=soon)
        ) as catalog:
            catalog.follow()
            deadline = time.monotonic() + 120
            while catalog.snapshot.base.rows != 60 + 30 - 1:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            base = catalog.snapshot.base
            assert isinstance(base.index, MilvusIndex)
            # The rows that Milvus itself finds, before anything is scored or scanned here.
            effort = base.index.efforts.of(base.rows)
            found = base.index.candidates(base.vectors_ND[:1], effort)[0]
            assert sorted(found.tolist()) == list(range(base.rows))
            assert 9 not in base.row_of and 129 in base.row_of  # noqa: PT018
    assert MilvusServer.configured().call("looking", "list_collections") == before
