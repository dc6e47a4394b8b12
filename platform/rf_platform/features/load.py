"""Load a feature view into the online store: the row of each entity that holds now.

Feast's own materialisation reads rows through pandas, which turns whole numbers beside a gap into floats, takes any of the rows
of one time, and rows that are not known yet. Here the store gets the very rows that a dataset finds, read by the same SQL
(:mod:`~rf_platform.features.view_rows`). Expired rows are loaded as well: readers look at their time, so a longer ttl needs no
load.

Rows that were written to the store directly (``FeatureStore.push``) since the last load, with newer event timestamps than the
tables have, stay this time: the tables may not have caught up yet.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from rf_platform.features.expiry import as_time, oldest_alive
from rf_platform.features.leftovers import remove_leftovers
from rf_platform.features.read import ViewSource
from rf_platform.features.sources import describe, view_columns
from rf_platform.features.spec import FeatureSpec
from rf_platform.features.view_rows import newest_rows_sql
from rf_platform.sql import identifier

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView, Field

_BATCH = 5_000
_ALWAYS_US = 253_402_300_799_000_000
_START = datetime(1970, 1, 1, tzinfo=UTC)

OnlineRow = tuple[Any, dict[str, Any], datetime, datetime | None]
"""Entity key, values by field, event timestamp and created timestamp, as Feast's online stores take them."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Effect of a load on the rows of one view, in the online store."""

    rows: int = 0
    """Entities of the file that have a row by now."""
    expired: int = 0
    """Those with a row older than the ttl of the view: they have no value at present."""
    newest: datetime | None = None
    """Newest event timestamp of the rows."""
    kept: int = 0
    """Rows that stay as they were: written directly since the last load, and newer than those of the file."""
    replaced: int = 0
    """Rows that were newer than those of the file, and were replaced: withdrawn from it, or written before the last load."""
    removed: int = 0
    """Rows with keys that the file does not have."""


def load_view(
    store: "FeatureStore", source: ViewSource, spec: FeatureSpec, moment_us: int, threads: int | None = None
) -> Loaded:
    """Load a view as it is at a moment; a history is loaded whatever its time.

    Args:
        store: the Feast store.
        source: the view.
        spec: the feature service it belongs to.
        moment_us: microseconds since 1970.
        threads: CPU threads; default: all.

    Raises:
        NotFoundError, DataError, ConfigError: the file does not hold what the definition says; see
            :func:`~rf_platform.features.sources.view_columns`.
        Exception: the online store's own.
    """
    view = store.get_feature_view(source.view)
    history = source.side == "context"
    since = None if history else _since(view)
    if hasattr(store.config.online_store, "skip_dedup"):  # else Redis keeps what it has of the same time
        store.config.online_store.skip_dedup = True
    online, keys, done = store._get_provider().online_store, set[bytes](), Loaded()
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        if threads:
            db.execute(f"SET threads = {threads}")
        for rows in _rows(db, source, spec, view, _ALWAYS_US if history else moment_us):
            keys.update(_serialized(store, key) for key, *_ in rows)
            done = _counted(done, source, rows, moment_us)
            if not history:
                newer = _newer(store, view, online, rows)
                kept = {i for i, stored in newer.items() if since is None or stored >= since}
                done = replace(done, kept=done.kept + len(kept), replaced=done.replaced + len(newer) - len(kept))
                rows = [row for i, row in enumerate(rows) if i not in kept]
            if rows:
                online.online_write_batch(store.config, view, rows, None)
    removed, spared = remove_leftovers(store, view, keys, None if history else since or _START)
    store.registry.apply_materialization(view, store.project, _START, as_time(moment_us))
    return replace(done, kept=done.kept + spared, removed=removed)


def _rows(
    db: duckdb.DuckDBPyConnection, source: ViewSource, spec: FeatureSpec, view: "FeatureView", moment_us: int
) -> Iterator[list[OnlineRow]]:
    """Yield the row of every key that holds at a moment, some at a time."""
    read, there = view_columns(db, source, spec), describe(db, source.path, f"view '{source.view}'")
    mapping = {feature: column for column, feature in view.batch_source.field_mapping.items()}
    # Fields that the model does not use, other readers of the store may want, as far as the file has them.
    expressions = {
        f.name: read.features.get(f"{source.view}__{f.name}", identifier(mapping.get(f.name, f.name)))
        for f in view.features
        if f"{source.view}__{f.name}" in read.features or mapping.get(f.name, f.name) in there
    }
    fields = [f for f in view.features if f.name in expressions]
    query = newest_rows_sql(source, read, list(expressions.values()), moment_us)
    for batch in db.execute(query).to_arrow_reader(_BATCH):
        yield list(_protos(batch, view, fields))


def _protos(batch: pa.RecordBatch, view: "FeatureView", fields: "Sequence[Field]") -> Iterator[OnlineRow]:
    """Return what Feast's online stores write, of the key, the event and created timestamp and the fields, in this order."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey

    (entity,) = view.entity_columns
    keys = _values(batch.column(0), entity)
    names = [f.name for f in fields]
    columns = [_values(batch.column(3 + i), f) for i, f in enumerate(fields)]
    has_created = bool(view.batch_source.created_timestamp_column)
    created = batch.column(2).to_pylist() if has_created else [None] * batch.num_rows
    values = zip(*columns, strict=True) if columns else iter([()] * batch.num_rows)
    for key, row, ts, known in zip(keys, values, batch.column(1).to_pylist(), created, strict=True):
        yield EntityKey(join_keys=[entity.name], entity_values=[key]), dict(zip(names, row, strict=True)), ts, known


def _values(column: pa.Array, field: "Field") -> list[Any]:
    """Return the values of a column as Feast's messages; an empty one stands for null."""
    from feast.protos.feast.types.Value_pb2 import Value
    from feast.type_map import python_values_to_proto_values

    if column.null_count == len(column):
        return [Value()] * len(column)
    values = column.to_pylist()
    if pa.types.is_list(column.type) and column.flatten().null_count:  # Feast's lists hold no nulls
        absent = [float("nan")] if pa.types.is_floating(column.type.value_type) else []
        values = [v and [e for x in v for e in (absent if x is None else [x])] for v in values]
    found: list[Any] = python_values_to_proto_values(values, field.dtype.to_value_type())
    return found


def loaded_at(view: "FeatureView") -> datetime | None:
    """Return the time of the view's last load; None: never."""
    ends = [end.replace(tzinfo=end.tzinfo or UTC) for _, end in view.materialization_intervals]
    return max(ends) if ends else None


def _since(view: "FeatureView") -> datetime | None:
    """Return the time of the view's last load, in whole seconds as some stores keep times; None: never."""
    last = loaded_at(view)
    return None if last is None else last.replace(microsecond=0)


def _newer(store: "FeatureStore", view: "FeatureView", online: Any, rows: Sequence[OnlineRow]) -> dict[int, datetime]:
    """Return which rows the store has newer ones of, and their event timestamps."""
    some = [view.features[0].name]
    found = online.online_read(store.config, view, [key for key, *_ in rows], some)
    # What Feast writes is UTC; what it reads is, too, but for PostgreSQL, which puts the time zone of its session to it.
    stored = [None if moment is None else moment.replace(tzinfo=UTC) for moment, _ in found]
    # Of a row that Redis does not have, it says 1970.
    return {
        i: moment
        for i, (row, moment) in enumerate(zip(rows, stored, strict=True))
        if moment is not None and moment > max(row[2], _START)
    }


def _counted(done: Loaded, source: ViewSource, rows: Sequence[OnlineRow], moment_us: int) -> Loaded:
    times = [moment for *_, moment, _ in rows]
    expired = 0
    if source.ttl is not None:
        oldest = oldest_alive(moment_us, source.ttl)
        expired = sum(moment < oldest for moment in times)
    newest = max([*times, *([done.newest] if done.newest else [])])
    return replace(done, rows=done.rows + len(rows), expired=done.expired + expired, newest=newest)


def _serialized(store: "FeatureStore", key: Any) -> bytes:
    from feast.infra.key_encoding_utils import serialize_entity_key

    serialized: bytes = serialize_entity_key(key, store.config.entity_key_serialization_version)
    return serialized
