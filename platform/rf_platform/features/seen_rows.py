"""Seen sets made from the interaction log: all of them for the online store, or those of a few users.

Shapes: P distinct triples of user, event type and item, in this order, each with its last time.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rf_platform.features.dtype import MISSING_STRING
from rf_platform.features.history import check_log_id
from rf_platform.features.leftovers import remove_leftovers
from rf_platform.features.meanings import SEEN, check_meaning_columns, with_meaning
from rf_platform.features.seen import encode_row, seen_view
from rf_platform.features.spec import FeatureSpec
from rf_platform.features.store_marks import StoreMarks
from rf_platform.sql import identifier, literal

if TYPE_CHECKING:
    from feast import FeatureStore
    from feast.protos.feast.types.Value_pb2 import Value

_TRIPLES = 131_072
_USERS = 1_000
"""Rows that are written together."""


def load_seen(store: "FeatureStore", spec: FeatureSpec, log: duckdb.DuckDBPyConnection, named: str) -> int:
    """Write the seen set of every user into the online store, remove those of users who are gone, and return how many it has.

    Args:
        store: the feature store; its online store raises errors of its own.
        spec: names users and items.
        log: has the relation ``log``.
        named: what the relation is called in messages.

    Raises:
        ConfigError: the log has ids of another type than the entities, or lacks a column that a meaning of events reads.
    """
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.type_map import python_values_to_proto_values

    view = seen_view(store, spec)
    (entity,) = view.entity_columns
    if hasattr(store.config.online_store, "skip_dedup"):  # else Redis keeps a row of a later time
        store.config.online_store.skip_dedup = True
    online = store._get_provider().online_store
    online.update(store.config, [], [view], [], [], True)
    kept: set[bytes] = set()
    now = datetime.now(UTC)
    rows = seen_rows(log, spec, named)
    while some := list(islice(rows, _USERS)):
        values = python_values_to_proto_values([user for user, _ in some], entity.dtype.to_value_type())
        keys = [EntityKey(join_keys=[entity.name], entity_values=[value]) for value in values]
        data = [(key, row, now, None) for key, (_, row) in zip(keys, some, strict=True)]
        online.online_write_batch(store.config, view, data, None)
        kept.update(serialize_entity_key(key, store.config.entity_key_serialization_version) for key in keys)
    remove_leftovers(store, view, kept, None)
    return len(kept)


def drop_seen(store: "FeatureStore", spec: FeatureSpec) -> None:
    """Drop the tables of the seen sets and of the marks, which ``FeatureStore.teardown`` does not know."""
    online = store._get_provider().online_store
    online.update(store.config, [seen_view(store, spec)], [], [], [], True)
    StoreMarks(store).drop(online)


def seen_rows(
    log: duckdb.DuckDBPyConnection, spec: FeatureSpec, named: str
) -> Iterator[tuple[int | str, "dict[str, Value]"]]:
    """Yield the users of the relation ``log`` by rising id, each with the row of the seen set; sorted on disk if need be.

    Arguments and errors are those of :func:`load_seen`.
    """
    columns = {row[0]: row[1] for row in log.execute("DESCRIBE log").fetchall()}
    for entity in (spec.user, spec.item):
        check_log_id(columns, entity, named)
    check_meaning_columns(spec.meanings, columns, named)
    user, item = identifier(spec.user.join_key), identifier(spec.item.join_key)
    missing = literal(MISSING_STRING)
    kind = f"coalesce(event_type, {missing})" if "event_type" in columns else missing  # not every log has types
    time = "max(epoch_us(event_timestamp) // 1000000)" if "event_timestamp" in columns else "0::BIGINT"
    triples = log.execute(
        f"SELECT {user} AS user, {kind} AS type, {item} AS item, {time} AS time "
        f"FROM {with_meaning(spec.meanings, 'log', *SEEN)} GROUP BY user, type, item ORDER BY user, type, item"
    ).to_arrow_reader(_TRIPLES)
    rest = triples.schema.empty_table()
    for batch in triples:
        table = pa.concat_tables([rest, pa.table(batch)]).combine_chunks()
        if not table.num_rows:
            continue
        last = int(_starts(table["user"])[-1])  # that user may go on in the next batch
        yield from _rows(table.slice(0, last), spec)
        rest = table.slice(last)
    yield from _rows(rest, spec)


def _rows(table: pa.Table, spec: FeatureSpec) -> Iterator[tuple[int | str, "dict[str, Value]"]]:
    if not table.num_rows:
        return
    users = _starts(table["user"])
    types = np.union1d(users, _starts(table["type"]))
    ids = table["item"].to_numpy() if spec.item.id_type == "int64" else table["item"].to_pylist()
    user_ids, names = table["user"].take(users).to_pylist(), table["type"].take(types).to_pylist()
    times = table["time"].to_numpy()
    first_types = [*types.searchsorted(users).tolist(), len(types)]
    bounds = np.append(types, table.num_rows)
    counts = np.diff(bounds).tolist()
    for user, (begin, end) in zip(user_ids, pairwise(first_types), strict=True):
        own = slice(bounds[begin], bounds[end])
        yield user, encode_row(spec.item.id_type, ids[own], names[begin:end], counts[begin:end], times[own])


def _starts(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return where a run of equal values begins."""
    changes = pc.not_equal(column.slice(1), column.slice(0, max(0, len(column) - 1)))
    return np.append(0, 1 + np.flatnonzero(changes.to_numpy()))
