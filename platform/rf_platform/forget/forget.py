"""Erasure of a user: serving log, event log, online store, seen set, imported tables; each step can be repeated."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rf_platform.data.event_log import EventLog, EventParts
from rf_platform.features.leftovers import remove_rows
from rf_platform.features.read import FeatureDefinitions, read_definitions
from rf_platform.features.seen import seen_view
from rf_platform.features.store import open_store
from rf_platform.files import new_file
from rf_platform.forget.forgotten import Forgotten
from rf_platform.locks import locked
from rf_platform.serving_log import ServingParts
from rf_platform.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """Rows of a user that were removed, by place."""

    user_id: str
    served: int
    """Answers of the serving log."""
    recorded: int
    """Events in SQL."""
    sealed: int
    """Events in files."""
    online: dict[str, int]
    """Rows of the online store, by view; the seen set among them."""
    tables: dict[str, int]
    """Rows of the imported tables, by file."""
    left: Sequence[str]
    """Places that still have the user and are not this command's to change."""

    @property
    def total(self) -> int:
        """All rows that were removed."""
        return self.served + self.recorded + self.sealed + sum(self.online.values()) + sum(self.tables.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain data."""
        return {**asdict(self), "total": self.total}


def forget(settings: Settings, user_id: str) -> Erasure:
    """Remove a user from a workspace, and keep the user out of what is imported later.

    The user is put on the list of the forgotten first: killed at any moment, the next call does the rest.

    Args:
        settings: the workspace and its stores.
        user_id: the user, as text.

    Raises:
        UnavailableError: a store cannot be reached, or another command reads or writes the tables.
        ConfigError, NotFoundError: the feature definitions cannot be read.
    """
    settings.workspace.check_exists()
    store = open_store(settings)
    definitions = read_definitions(store, settings.feature_service)
    Forgotten(settings.workspace).add(user_id)
    with locked(settings.workspace.root, f"another command reads or writes the tables of {settings.workspace.root}"):
        tables = _from_tables(settings.workspace.tables, definitions, user_id)
    recorded, sealed = _from_events(settings, user_id)
    return Erasure(
        user_id=user_id,
        served=_from_serving_log(settings, user_id),
        recorded=recorded,
        sealed=sealed,
        online=_from_store(store, definitions, user_id),
        tables=tables,
        left=_left(settings, definitions, user_id),
    )


def _from_events(settings: Settings, user_id: str) -> tuple[int, int]:
    """Remove events from SQL and from files: under the lock of those that move events from one to the other."""
    parts = EventParts(settings.workspace.events)
    log = EventLog.existing(settings)
    if log is None and not parts.parts:
        return 0, 0
    with parts.writing():
        recorded = 0
        if log is not None:
            log.close()
            writer = EventLog.open(settings)
            try:
                recorded = writer.forget(user_id)
            finally:
                writer.close()
        return recorded, parts.forget(user_id)


def _from_serving_log(settings: Settings, user_id: str) -> int:
    removed = 0
    for part in ServingParts(settings.workspace.serving_log).parts():
        removed += _without(part.path, "user_id", user_id)
    return removed


def _from_store(store: "FeatureStore", definitions: FeatureDefinitions, user_id: str) -> dict[str, int]:
    views = [store.get_feature_view(s.view) for s in definitions.sources if s.side != "item" and s.online]
    of_seen = seen_view(store, definitions.spec)
    found = {view.name: remove_rows(store, view, [_id(definitions, user_id)]) for view in [*views, of_seen]}
    return {name: rows for name, rows in found.items() if rows is not None}


def _from_tables(tables: Path, definitions: FeatureDefinitions, user_id: str) -> dict[str, int]:
    key = definitions.spec.user.join_key
    removed = {path.name: _without(path, key, user_id) for path in sorted(tables.glob("*.parquet"))}
    return {name: rows for name, rows in removed.items() if rows}


def _left(settings: Settings, definitions: FeatureDefinitions, user_id: str) -> list[str]:
    """Return the places that may still have the user."""
    said = []
    tables = settings.workspace.tables.resolve()
    for source in definitions.sources:
        path = Path(source.path)
        ours = path.parent.resolve() == tables or "*" in source.path or not path.exists()
        if source.side == "user" and not ours and (rows := _count(path, source.join_key, user_id)):
            said.append(f"{path}: {rows:,} rows, the file of view '{source.view}', which is yours to change")
    if any(settings.workspace.datasets.glob("*/manifest.json")):
        said.append("datasets, runs and bundles made before: `rf gc`, when a new one serves")
    return said


def _id(definitions: FeatureDefinitions, user_id: str) -> int | str:
    return user_id if definitions.spec.user.id_type == "string" else int(user_id)


def _matches(column: pa.ChunkedArray, user_id: str) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(column.cast(pa.string()), user_id), False)


def _count(path: Path, column: str, user_id: str) -> int:
    if column not in pq.read_schema(path).names:
        return 0
    return int(pc.sum(_matches(pq.read_table(path, columns=[column])[column], user_id)).as_py() or 0)


def _without(path: Path, column: str, user_id: str) -> int:
    """Write a file again without the rows of a user, and return how many these were."""
    if not (rows := _count(path, column, user_id)):
        return 0
    file = pq.ParquetFile(path)
    with new_file(path) as part, pq.ParquetWriter(part, file.schema_arrow, compression="zstd") as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            writer.write_table(table.filter(pc.invert(_matches(table[column], user_id))))
    return rows
