"""Write the newest row of every key of a view into the online store.

The rows are those that a dataset is built from, read by the same SQL; Feast's own materialisation reads them through pandas,
which turns whole numbers beside a gap into floats, and picks any row among those of equal time.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from rf_platform.features.read import ViewSource
from rf_platform.features.sources import view_columns
from rf_platform.features.spec import FeatureSpec
from rf_platform.sql import identifier, pattern_literal

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView, Field

_BATCH = 10_000


def load_view(
    store: "FeatureStore", source: ViewSource, spec: FeatureSpec, until: datetime, threads: int | None = None
) -> set[bytes]:
    """Write what is known of every key at a moment, and return the keys as the online store writes them.

    Args:
        store: the Feast store.
        source: the view.
        spec: the feature service it belongs to.
        until: rows of a later time are left out.
        threads: CPU threads; default: all.

    Raises:
        NotFoundError, DataError, ConfigError: the file does not hold what the definition says; see
            :func:`~rf_platform.features.sources.view_columns`.
    """
    from feast.infra.key_encoding_utils import serialize_entity_key

    view = store.get_feature_view(source.view)
    provider, version = store._get_provider(), store.config.entity_key_serialization_version
    keys: set[bytes] = set()
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        if threads:
            db.execute(f"SET threads = {threads}")
        for batch in _newest(db, source, spec, view, until):
            rows = list(_protos(batch, view))
            provider.online_write_batch(store.config, view, rows, None)
            keys.update(serialize_entity_key(key, version) for key, *_ in rows)
    return keys


def _newest(
    db: duckdb.DuckDBPyConnection, source: ViewSource, spec: FeatureSpec, view: "FeatureView", until: datetime
) -> Iterator[pa.RecordBatch]:
    """Return the newest known row of every key: ``key``, ``ts``, ``created``, then the view's features in order."""
    read = view_columns(db, source, spec)
    mapping = {feature: column for column, feature in view.batch_source.field_mapping.items()}
    features = (  # a field with role=ignore is no feature of the model; other readers of the store may want it
        read.features.get(f"{source.view}__{f.name}", identifier(mapping.get(f.name, f.name))) for f in view.features
    )
    selected = "".join(f", {expression} AS f{i}" for i, expression in enumerate(features))
    query = f"""
        WITH raw AS (
            SELECT {read.key} AS key, {read.time} AS ts, {read.created} AS created, row_number() OVER () AS position{selected}
            FROM read_parquet({pattern_literal(source.path)}))
        SELECT * EXCLUDE (position) FROM raw WHERE greatest(ts, created) <= $1
        QUALIFY row_number() OVER (PARTITION BY key ORDER BY ts DESC, created DESC, position DESC) = 1"""
    yield from db.execute(query, [until]).to_arrow_reader(_BATCH)


def _protos(
    batch: pa.RecordBatch, view: "FeatureView"
) -> Iterator[tuple[Any, dict[str, Any], datetime, datetime | None]]:
    """Return what Feast's online stores write: entity key, values by feature, event timestamp, created timestamp."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey

    (entity,) = view.entity_columns
    keys = _values(batch["key"], entity)
    names = [f.name for f in view.features]
    columns = [_values(batch[f"f{i}"], f) for i, f in enumerate(view.features)]
    has_created = bool(view.batch_source.created_timestamp_column)
    created = batch["created"].to_pylist() if has_created else [None] * batch.num_rows
    values = zip(*columns, strict=True) if columns else iter([()] * batch.num_rows)
    for key, row, ts, known in zip(keys, values, batch["ts"].to_pylist(), created, strict=True):
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
