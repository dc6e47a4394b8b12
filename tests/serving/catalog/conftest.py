from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rf_platform.registry.journal import CatalogJournal, Change
from rf_platform.settings import Settings
from rf_protos.v1.catalog_pb2 import DeleteItemsRequest, Item, ListItemsRequest
from rf_protos.v1.catalog_pb2_grpc import CatalogServiceStub
from rf_protos.v1.features_pb2 import FeatureValue, StringList

if TYPE_CHECKING:
    from rf_serving.bundle.served import ServedBundle
    from rf_serving.catalog.item_schema import ItemSchema

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
MakeItem = Callable[..., Item]
Put = Callable[[Mapping[int, Mapping[str, Any] | None]], list[int]]


def _item(item_id: int | str, **given: Any) -> Item:
    shaped = {
        f"item_attributes__{name}": FeatureValue(string_list=StringList(values=value))
        if isinstance(value, list)
        else FeatureValue(string_value=value)
        if isinstance(value, str)
        else FeatureValue(int_value=value)
        for name, value in given.items()
    }
    return Item(item_id=str(item_id), features=shaped)


@pytest.fixture(scope="session")
def make_item() -> MakeItem:
    """Makes an item of its id and features by field name: ``make_item(7, genres=["War"], release_year=1990)``."""
    return _item


@pytest.fixture(scope="session")
def bundle(home: Path) -> "ServedBundle":
    """The promoted bundle: 60 items, numbered from 1."""
    from rf_serving.bundle.served import ServedBundle

    return ServedBundle.open(home / "bundles" / "tiny-run-1")


@pytest.fixture(scope="session")
def schema(bundle: "ServedBundle") -> "ItemSchema":
    from rf_serving.catalog.item_schema import ItemSchema

    return ItemSchema.of(bundle.encoder)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[CatalogJournal]:
    journal = CatalogJournal.open(f"sqlite:///{tmp_path / 'registry.db'}")
    yield journal
    journal.close()


@pytest.fixture
def put(journal: CatalogJournal, schema: "ItemSchema", make_item: MakeItem) -> Put:
    """Records changes, as another process does: features by field name, None for a delete; returns their numbers."""

    def record(changes: Mapping[int, Mapping[str, Any] | None]) -> list[int]:
        texts = {
            k: None if v is None else schema.text(schema.read(make_item(k, **v).features, ""))
            for k, v in changes.items()
        }
        (recorded,) = journal.record([[Change(item_id=str(k), features=v) for k, v in texts.items()]])
        return [change.sequence for change in recorded]

    return record


@pytest.fixture(scope="session")
def workspace(
    home: Path, tmp_path_factory: pytest.TempPathFactory, copy_workspace: Callable[[Path, Path], Path]
) -> Path:
    """A workspace whose catalog may be changed."""
    return copy_workspace(home, tmp_path_factory.mktemp("catalog") / "home")


@pytest.fixture(scope="session")
def running(workspace: Path, start_server: Callable[..., Any]) -> Iterator[Any]:
    """A server on that workspace; every test has items of its own."""
    from rf_serving.server.options import Limits

    limits = Limits(max_k=1000, max_batch=100)
    with start_server(Settings(home=workspace, feature_repo=REPOSITORY), limits=limits) as running:
        yield running


@pytest.fixture
def without_others(catalog: Any) -> None:
    """Delete the items of other tests, whichever came before."""
    others = [item for item in catalog.ListItems(ListItemsRequest()).item_ids if not 1 <= int(item) <= 60]
    for start in range(0, len(others), 100):
        catalog.DeleteItems(DeleteItemsRequest(item_ids=others[start : start + 100]))


@pytest.fixture(scope="session")
def catalog(running: Any) -> Any:
    """Its CatalogService."""
    return CatalogServiceStub(running.channel)  # type: ignore[no-untyped-call]
