"""A small dataset, built by the real builder from hand-made definitions, and models on it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.dataset import Dataset
from rf_platform.dataset.build import BuildOptions, build_dataset
from rf_platform.dataset.protocols import LeaveOneOut, SplitProtocol
from rf_platform.features.event_weights import EventWeights
from rf_platform.features.meaning_rules import parse_meanings
from rf_platform.features.read import FeatureDefinitions, ViewSource
from rf_platform.features.spec import DomainSpec, EntitySpec, FeatureSpec, FieldSpec


def _field(view: str, name: str, side: str, kind: str, domain: str | None = None, of: str | None = None) -> FieldSpec:
    role = "history" if of else "feature"
    dtype = {"multi": "Array(String)", "numeric": "Float32", "timestamp": "UnixTimestamp"}.get(kind, "")
    dtype = dtype or ("Int64" if name in ("release_year", "hours", "item_ids", "age_group") else "String")
    dtype = f"Array({dtype})" if of else dtype
    return FieldSpec(view=view, field=name, side=side, kind=kind, role=role, dtype=dtype, domain=domain, of=of)  # type: ignore[arg-type]


FIELDS = (
    _field("items", "genres", "item", "multi", "genre"),
    _field("items", "release_year", "item", "categorical", "year"),
    _field("past", "event_types", "context", "categorical", "event", of="event_type"),
    _field("past", "hours", "context", "categorical", "hour", of="hour"),
    _field("past", "item_ids", "context", "categorical", "item_id", of="item_id"),
    _field("past", "ratings", "context", "numeric", of="rating"),
    _field("past", "times", "context", "timestamp", of="event_timestamp"),
    _field("users", "age_group", "user", "categorical", "age"),
    _field("users", "gender", "user", "categorical", "gender"),
)
TYPES = {
    "genre": "string",
    "year": "int64",
    "event": "string",
    "hour": "int64",
    "item_id": "int64",
    "age": "int64",
    "gender": "string",
}
SPEC = FeatureSpec(
    service="test",
    user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
    item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
    fields=FIELDS,
    domains=tuple(DomainSpec(name=k, value_type=v) for k, v in sorted(TYPES.items())),  # type: ignore[arg-type]
    history_length=10,
)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory, write_tables: Callable[..., None]) -> Dataset:
    """24 users who mostly keep to one of five genres, 40 items, 12 events each."""
    home = tmp_path_factory.mktemp("dataset")
    write_tables(home / "tables")
    return build(home)


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory, write_tables: Callable[..., None]) -> Dataset:
    """As ``dataset``, with half as many items and users again, and other events: frequencies are others, and so are ids."""
    home = tmp_path_factory.mktemp("newer")
    write_tables(home / "tables", users=36, items=60, seed=1)
    return build(home)


@pytest.fixture(scope="session")
def typed(tmp_path_factory: pytest.TempPathFactory, write_tables: Callable[..., None]) -> Dataset:
    """As ``dataset``, but for its types: each user views two items and then buys one; a purchase weighs 5."""
    home = tmp_path_factory.mktemp("typed")
    write_tables(home / "tables")
    log = pq.read_table(home / "tables" / "interactions.parquet")
    types = pa.array(["purchase" if (row + row // 12) % 3 == 2 else "view" for row in range(log.num_rows)])
    pq.write_table(
        log.set_column(log.column_names.index("event_type"), "event_type", types),
        home / "tables" / "interactions.parquet",
    )
    return build(home, spec=replace(SPEC, weights=EventWeights(types=(("purchase", 5.0),))))


@pytest.fixture(scope="session")
def build_by_protocol() -> Callable[[Path, SplitProtocol], Dataset]:
    """Build a dataset of the tables under a directory: ``build_by_protocol(home, protocol)``."""
    return build


@pytest.fixture(scope="session")
def build_with() -> Callable[[Path, str | None], Dataset]:
    """Build a dataset of the tables under a directory with meanings of events: ``build_with(home, meanings)``."""

    def made(home: Path, meanings: str | None) -> Dataset:
        rules = () if meanings is None else parse_meanings(meanings, "view 'past'")
        return build(home, spec=replace(SPEC, meanings=rules))

    return made


def build(home: Path, protocol: SplitProtocol | None = None, spec: FeatureSpec = SPEC) -> Dataset:
    sources = tuple(
        ViewSource(
            view=view,
            side=side,  # type: ignore[arg-type]
            path=str(home / "tables" / f"{view}.parquet"),
            join_key=f"{side}_id",
            timestamp="event_timestamp",
            created=None,
            ttl=None,
            columns={f.field: f.field for f in FIELDS if f.view == view},
        )
        for view, side in (("items", "item"), ("users", "user"))
    )
    definitions = FeatureDefinitions(spec=spec, sources=sources)
    options = BuildOptions(protocol=protocol or LeaveOneOut())
    return build_dataset(definitions, home / "tables" / "interactions.parquet", home / "datasets", "tiny", options)[0]
