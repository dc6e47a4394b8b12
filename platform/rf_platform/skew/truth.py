"""Truth of a user at a moment, read by the dataset builder itself: its tables, its as-of join, its order of events."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from rf_platform.dataset.asof import join_sql
from rf_platform.dataset.build import DatasetBuilder, rows_table
from rf_platform.dataset.workspace_builder import workspace_builder
from rf_platform.errors import ConfigError, DataError, NotFoundError
from rf_platform.features.read import FeatureDefinitions
from rf_platform.features.sources import view_columns
from rf_platform.features.spec import FieldSpec
from rf_platform.settings import Settings
from rf_platform.skew.difference import Version, plain
from rf_platform.sql import identifier


@dataclass(frozen=True)
class Requests:
    """Users and moments asked about, a row each."""

    users: Sequence[int | str]
    at_us: Sequence[int]


@dataclass(frozen=True)
class ViewTruth:
    """Rows of one view of the users asked about."""

    held: dict[str, list[Any]]
    """By full name: the value that training sees at each request."""
    held_ts: list[int | None]
    """Event timestamp of the row it is from, in whole seconds."""
    versions: dict[Any, dict[str, list[Version]]]
    """By user and full name; the event timestamps under the name of the view."""


@dataclass(frozen=True)
class EventTruth:
    """Wanted events of one user, as training reads them."""

    times_us: list[int] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    """Values of each history field, by full name, oldest first."""


class Truth:
    """Answers what training sees; inside :func:`truth_of`."""

    def __init__(self, builder: DatasetBuilder, problems: dict[str, str]) -> None:
        self._builder, self._db = builder, builder.db
        self.problems = problems
        """Views that cannot be built from the tables, with the reason."""
        self.spec = builder.spec

    def ask(self, requests: Requests) -> None:
        """Take the requests that the other methods are about."""
        table = pa.table(
            {
                "event": pa.array(range(len(requests.users)), pa.int64()),
                "user_id": pa.array(requests.users, pa.int64() if self.spec.user.id_type == "int64" else pa.string()),
                "event_timestamp": pa.array(requests.at_us, pa.timestamp("us", tz="UTC")),
            }
        )
        self._db.register("asked", table)
        self._db.execute("CREATE OR REPLACE TABLE requests AS SELECT * FROM asked")

    def view(self, name: str, fields: Sequence[FieldSpec]) -> ViewTruth:
        """Return the rows of a view of users."""
        source = next(s for s in self._builder.sources if s.view == name)
        rows = rows_table(source)
        values = "".join(f", {_selected(f, 'r.')}" for f in fields)
        joined = join_sql(source, rows, "requests", "user_id")
        first = f"(SELECT * FROM {rows} QUALIFY row_number() OVER (PARTITION BY rid ORDER BY known DESC) = 1)"
        held = self._db.execute(
            f"""SELECT epoch_us(at_time.ts) // 1000000{values} FROM ({joined}) j
            LEFT JOIN {first} r USING (rid) JOIN requests q USING (event)
            LEFT JOIN LATERAL (SELECT max(ts) AS ts FROM {rows} o
                WHERE o.rid = j.rid AND o.known < q.event_timestamp) at_time ON true
            ORDER BY j.event"""
        ).fetchall()
        found = self._db.execute(
            f"""SELECT r.key, epoch_us(r.known), epoch_us(r.ts) // 1000000{values} FROM {rows} r
            WHERE r.key IN (SELECT user_id FROM requests) ORDER BY r.key, r.known"""
        ).fetchall()
        forms = [_form(f) for f in fields]
        versions: dict[Any, dict[str, list[Version]]] = {}
        for key, known, ts, *row in found:
            own = versions.setdefault(key, {name: [], **{f.name: [] for f in fields}})
            own[name].append(Version(known, ts))
            for f, form, value in zip(fields, forms, row, strict=True):
                own[f.name].append(Version(known, form(value)))
        columns = {f.name: [forms[i](row[i + 1]) for row in held] for i, f in enumerate(fields)}
        return ViewTruth(columns, [row[0] for row in held], versions)

    def events(self) -> dict[Any, EventTruth]:
        """Return the wanted events of the users asked about."""
        spec = self.spec
        fields = [f for f in spec.history if f.of != spec.item.join_key]
        names = "".join(f", {_selected(f, '')}" for f in fields)
        found = self._db.execute(
            f"""SELECT user_id, item_id, epoch_us(event_timestamp){names} FROM numbered
            WHERE user_id IN (SELECT user_id FROM requests) ORDER BY event"""
        ).fetchall()
        items, forms = spec.history_items, [_form(f) for f in fields]
        truth: dict[Any, EventTruth] = {}
        for user, item, time, *row in found:
            own = truth.setdefault(user, EventTruth(columns={f.name: [] for f in spec.history}))
            own.times_us.append(time)
            if items is not None:
                own.columns[items.name].append(item)
            for f, form, value in zip(fields, forms, row, strict=True):
                own.columns[f.name].append(form(value))
        return truth


def _selected(f: FieldSpec, of: str) -> str:
    """Return the SQL of a field; times in whole seconds."""
    name = f"{of}{identifier(f.name)}"
    return f"epoch_us({name}) // 1000000" if f.type.is_time or f.type.single.is_time else name


def _form(f: FieldSpec) -> Callable[[Any], Any]:
    """Return the function that brings DuckDB's values of a field, or the elements of a history, into the form of compare."""
    dtype = f.type.single if f.role == "history" else f.type
    return (lambda value: value) if dtype.is_time else plain(dtype)


@contextmanager
def truth_of(settings: Settings, definitions: FeatureDefinitions) -> Iterator[Truth]:
    """Yield the truth of a workspace: tables and event log as a dataset build reads them.

    A view that cannot be built (its file lacks a column, say) is left out and named in :attr:`Truth.problems`.

    Raises:
        NotFoundError, DataError, ConfigError, UnavailableError: as for a dataset build.
    """
    with workspace_builder(settings, definitions) as builder:
        problems: dict[str, str] = {}
        sources = []
        for source in definitions.sources:
            if source.side == "user":
                try:
                    view_columns(builder.db, source, definitions.spec)
                except (ConfigError, DataError, NotFoundError) as error:
                    problems[source.view] = str(error)
                    continue
            if source.side != "item":  # what is served of items is in the bundle
                sources.append(source)
        builder.sources = tuple(sources)
        builder.read_log()
        yield Truth(builder, problems)
