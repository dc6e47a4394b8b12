"""Content of the online store beside the tables: views that were never loaded, loaded in part, or before the last import."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from rf_platform.data.report import RECORD, load_report
from rf_platform.features.load import loaded_at
from rf_platform.features.meanings import with_meaning
from rf_platform.features.read import FeatureDefinitions, ViewSource
from rf_platform.interrupts import raise_if_received
from rf_platform.settings import Settings
from rf_platform.sql import identifier, pattern_literal

if TYPE_CHECKING:
    from feast import FeatureStore

_ALL, _SAMPLE, _AT_ONCE = 2_000, 256, 200
"""Keys up to which all are looked up, keys that are drawn from more, and keys of one read."""


@dataclass(frozen=True, kw_only=True)
class ViewContent:
    """Rows of one view in the online store, for the keys that the tables have, or a sample of many."""

    view: str
    keys: int
    """Keys that were looked at."""
    missing: int
    """Those without a row."""
    loaded_at: datetime | None
    """Time of the last load; None: never."""
    imported_at: datetime | None
    """Time of the import of the tables."""

    @property
    def problem(self) -> str | None:
        """Return what is wrong in a sentence, or None."""
        if self.keys and self.missing == self.keys:
            return f"view '{self.view}' was never materialised: none of {self.keys:,} keys of the tables has a row"
        if self.missing:
            return f"view '{self.view}' is materialised in part: {self.missing:,} of {self.keys:,} keys of the tables have no row"
        if self.loaded_at is not None and self.imported_at is not None and self.imported_at > self.loaded_at:
            return (
                f"view '{self.view}' is stale: it was loaded at {self.loaded_at:%Y-%m-%d %H:%M} UTC, and the tables were "
                f"imported at {self.imported_at:%Y-%m-%d %H:%M}"
            )
        return None


def store_content(settings: Settings, store: "FeatureStore", definitions: FeatureDefinitions) -> list[ViewContent]:
    """Compare the online store with the imported tables, view by view; empty where no tables are imported here.

    Args:
        settings: the workspace.
        store: has the online store, which is read and not changed.
        definitions: of the feature service.
    """
    interactions = settings.workspace.tables / "interactions.parquet"
    if not interactions.exists() or not interactions.with_name(RECORD).exists():
        return []
    imported = datetime.fromisoformat(load_report(settings.workspace.tables).imported_at)
    found = []
    with duckdb.connect() as db:
        for source in (s for s in definitions.sources if s.online):
            keys = _keys(db, source, definitions, interactions)
            if not keys:
                continue
            found.append(
                ViewContent(
                    view=source.view,
                    keys=len(keys),
                    missing=len(keys) - _present(store, source.view, keys),
                    loaded_at=loaded_at(store.get_feature_view(source.view)),
                    imported_at=imported.astimezone(UTC),
                )
            )
    return found


def _keys(
    db: duckdb.DuckDBPyConnection, source: ViewSource, definitions: FeatureDefinitions, interactions: Path
) -> Sequence[int | str]:
    """Return the keys that the tables have for a view, or some of many; those of a history are the log's users."""
    spec = definitions.spec
    entity = spec.item if source.side == "item" else spec.user
    if source.side == "context":
        log = f"read_parquet({pattern_literal(interactions)})"
        relation, key = with_meaning(spec.meanings, log, "wanted"), entity.join_key
    else:
        if not Path(source.path).exists() and not any(c in source.path for c in "*?["):
            return []
        relation, key = f"read_parquet({pattern_literal(source.path)})", source.join_key
    db.execute(
        f"CREATE OR REPLACE TEMP TABLE asked AS SELECT DISTINCT {identifier(key)} AS key FROM {relation} AS l "
        f"WHERE {identifier(key)} IS NOT NULL"
    )
    count = (db.execute("SELECT count(*) FROM asked").fetchone() or (0,))[0]
    drawn = "" if count <= _ALL else f" USING SAMPLE {_SAMPLE} ROWS (reservoir, 0)"
    return [row[0] for row in db.execute(f"SELECT key FROM asked{drawn}").fetchall()]


def _present(store: "FeatureStore", name: str, keys: Sequence[int | str]) -> int:
    """Return how many keys have a row; a store without the view's table has none."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.type_map import python_values_to_proto_values

    view = store.get_feature_view(name)
    (entity,) = view.entity_columns
    values = python_values_to_proto_values(list(keys), entity.dtype.to_value_type())
    asked = [EntityKey(join_keys=[entity.name], entity_values=[value]) for value in values]
    names = [field.name for field in view.features]
    online, found = store._get_provider().online_store, list[Any]()
    try:
        for start in range(0, len(asked), _AT_ONCE):
            found += online.online_read(store.config, view, asked[start : start + _AT_ONCE], names)
    except Exception:  # each online store has its own way to say that it has no such table
        raise_if_received()
        return 0
    told = (
        store.config.online_store.type != "redis"
    )  # which gives values without a type for a row that it does not have
    return sum(row is not None and (told or any(v.WhichOneof("val") for v in row.values())) for _, row in found)
