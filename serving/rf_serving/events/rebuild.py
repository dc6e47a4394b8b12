"""Histories and seen sets made anew from interactions and event log: what a materialisation would write, for a few users."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from rf_platform.data.event_log import EventLog, EventParts, LoggedEvent
from rf_platform.data.event_log.parts import SEQUENCE, USER, events_table
from rf_platform.data.event_log.reading import union_with
from rf_platform.features.history import history_sql
from rf_platform.features.read import FeatureDefinitions
from rf_platform.features.seen_rows import seen_rows
from rf_platform.features.store import quiet
from rf_platform.sql import identifier, literal, pattern_literal
from rf_serving.events.history import as_microseconds, as_time

if TYPE_CHECKING:
    from feast import FeatureStore
    from feast.protos.feast.types.Value_pb2 import Value


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """Rows of users, by id as text."""

    histories: dict[str, tuple[dict[str, Any], datetime]]
    """Values by full name, and the time of the newest interaction."""
    seen: "dict[str, dict[str, Value]]"
    """Rows of the seen sets."""


class HistoryRebuilder:
    """Reads a few users out of the tables: milliseconds each, so it is for what cannot be done otherwise."""

    def __init__(
        self,
        store: "FeatureStore",
        definitions: FeatureDefinitions,
        log: EventLog,
        parts: EventParts,
        interactions: Path,
        *,
        clock: bool,
    ) -> None:
        """Take what there is.

        Args:
            store: for the views.
            definitions: the feature service.
            log: the event log.
            parts: its files.
            interactions: the imported table.
            clock: see :func:`~rf_platform.data.event_log.log_relation`.
        """
        self._store, self._definitions, self._log, self._parts = store, definitions, log, parts
        self._interactions, self._clock = interactions, clock

    def rows(self, users: Sequence[str], up_to: int) -> Rebuilt:
        """Return history and seen set of each user with any interaction.

        Args:
            users: ids, as text.
            up_to: the newest event to take in.
        """
        # SQL first: an event that moves meanwhile is then seen twice, never not at all.
        waiting = self._log.of_users(users, up_to)
        with self._parts.reading() as files, duckdb.connect(config={"threads": 1}) as db:
            db.execute("SET TimeZone = 'UTC'")
            sealed = self._parts.sealed
            db.register("waiting", events_table([event for event in waiting if event.sequence > sealed]))
            events = "SELECT * FROM waiting"
            if files:
                listed = ", ".join(pattern_literal(path) for path in files)
                wanted = ", ".join(literal(user) for user in users)
                events += (
                    f" UNION ALL BY NAME SELECT * FROM read_parquet([{listed}], union_by_name = true) "
                    f"WHERE {USER} IN ({wanted}) AND {SEQUENCE} <= {up_to}"
                )
            relation = union_with(db, f"({self._imported(users)})", f"({events})", clock=self._clock)
            db.execute(f"CREATE VIEW log AS SELECT * FROM {relation} AS l")
            seen = {str(user): row for user, row in seen_rows(db, self._definitions.spec, str(self._interactions))}
            return Rebuilt(self._converted(db), seen)

    def known(self, users: Sequence[str], before: int, counts: Callable[[LoggedEvent], bool]) -> set[str]:
        """Return which of the users had a history when the store was loaded, or events in SQL before a number that count.

        It takes milliseconds: the file behind a history view has one row per user, in their order.
        """
        found = {event.user_id for event in self._log.of_users(users, before - 1) if counts(event)}
        source = next((s for s in self._definitions.sources if s.side == "context"), None)
        if source is not None and Path(source.path).exists():
            key = identifier(source.join_key)
            query = (
                f"SELECT {key} FROM read_parquet({pattern_literal(source.path)}) WHERE {key} IN ({self._ids(users)})"
            )
            with duckdb.connect(config={"threads": 1}) as db:
                found.update(str(user) for (user,) in db.execute(query).fetchall())
        return found

    def _ids(self, users: Sequence[str]) -> str:
        return ", ".join(users if self._definitions.spec.user.id_type == "int64" else [literal(each) for each in users])

    def _imported(self, users: Sequence[str]) -> str:
        user = self._definitions.spec.user
        log = f"read_parquet({pattern_literal(self._interactions)})"
        return f"SELECT * FROM {log} WHERE {identifier(user.join_key)} IN ({self._ids(users)})"

    def _converted(self, db: duckdb.DuckDBPyConnection) -> dict[str, tuple[dict[str, Any], datetime]]:
        """Convert rows as Feast does when it materialises."""
        from feast.utils import _convert_arrow_to_proto

        found: dict[str, tuple[dict[str, Any], datetime]] = {}
        for source in self._definitions.sources:
            if source.side != "context":
                continue
            table = db.execute(history_sql(db, self._definitions, source, str(self._interactions))).to_arrow_table()
            if not table.num_rows:
                continue
            ids = [str(each) for each in table[source.join_key].to_pylist()]
            names = {column: field for field, column in source.columns.items()}
            table = table.combine_chunks().rename_columns([names.get(name, name) for name in table.column_names])
            view = self._store.get_feature_view(source.view)
            keys = {column.name: column.dtype.to_value_type() for column in view.entity_columns}
            with quiet():
                rows = _convert_arrow_to_proto(table, view, keys)
            for user, (_, values, moment, _) in zip(ids, rows, strict=True):
                held, newest = found.setdefault(user, ({}, moment))
                held.update({f"{source.view}__{name}": value for name, value in values.items()})
                found[user] = (held, max(newest, moment))
        return {user: (values, as_time(as_microseconds(moment))) for user, (values, moment) in found.items()}
