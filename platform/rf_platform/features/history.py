"""Online form of a user's recent interactions: one row per user with aligned arrays, oldest first.

Built from the interaction log by the definitions themselves: every ``role=history`` field keeps the log's column named by its
tag ``of``. Training never reads these rows; it slices the log (an as-of join against a per-event copy of the arrays would be
quadratic and leak nothing less).
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from rf_platform.data.event_log.reading import interaction_log
from rf_platform.errors import ConfigError
from rf_platform.features.dtype import MISSING_INTEGER, MISSING_STRING, Dtype
from rf_platform.features.meanings import check_meaning_columns, with_meaning
from rf_platform.features.read import FeatureDefinitions, ViewSource
from rf_platform.features.spec import EntitySpec, FieldSpec
from rf_platform.files import new_file
from rf_platform.sql import identifier, literal, pattern_literal


def check_log_id(columns: dict[str, str], entity: EntitySpec, log: str) -> None:
    """Check that the log has the ids of an entity, in their type.

    Args:
        columns: the log's columns with their DuckDB types.
        entity: owner of the ids.
        log: what the log is called in messages.

    Raises:
        ConfigError: the log has no such column, or ids of another type.
    """
    found = columns.get(entity.join_key)
    if found is None:
        raise ConfigError(
            f"the interaction log {log} has no column {entity.join_key!r}, the join key of entity "
            f"'{entity.name}' (it has: {', '.join(columns)})"
        )
    if not Dtype("String" if entity.id_type == "string" else "Int64").fits(found):
        raise ConfigError(
            f"entity '{entity.name}' has {entity.id_type} ids, but {entity.join_key!r} of the interaction log "
            f"{log} holds {found}; set the entity's value_type to match (and the dtype of fields that keep these ids), or "
            f"import ids of the type they had"
        )


def log_column(
    db: duckdb.DuckDBPyConnection, columns: dict[str, str], field: FieldSpec, relation: str, sql: str, log: str
) -> str:
    """Return the SQL of the log's column that a history field keeps, cast to its declared dtype.

    Args:
        db: has the log.
        columns: the log's columns with their DuckDB types.
        field: a field with role=history.
        relation: what to put behind FROM to read the log, under the name that ``sql`` uses.
        sql: the column.
        log: what the log is called in messages.

    Raises:
        ConfigError: the log has no such column, or one of another type.
    """
    element = field.type.single
    found = columns.get(str(field.of))
    if found is None:
        raise ConfigError(
            f"{field.view}.{field.field} keeps the column {field.of!r}, which the interaction log {log} does not have "
            f"(it has: {', '.join(columns)})"
        )
    if element.fits(found):
        return f"CAST({sql} AS {element.sql})"
    row = db.execute(f"SELECT count({sql}) FROM {relation}").fetchone()
    if row is not None and row[0] == 0:  # a column without a value has no type of its own
        return f"CAST(NULL AS {element.sql})"
    raise ConfigError(
        f"{field.view}.{field.field} is declared {field.dtype}, but column {field.of!r} of the interaction log {log} "
        f"holds {found}; change the dtype of the field or the type of the column"
    )


_IMPORTED = ("interactions.parquet", "items.parquet", "users.parquet", "quarantine.parquet")


def write_user_history(
    definitions: FeatureDefinitions,
    interactions: Path,
    threads: int | None = None,
    events: Sequence[Path] = (),
    *,
    clock: bool = True,
) -> int:
    """Write the Parquet file behind every history view and return the number of users.

    Args:
        definitions: the feature service.
        interactions: the interaction log; the files are written into its directory only.
        threads: CPU threads; default: all.
        events: files of the event log.
        clock: see :func:`~rf_platform.data.event_log.log_relation`.

    Raises:
        ConfigError: a ``role=history`` field keeps a column that the log does not have, or the path of a history view
            is not one that may be written.
    """
    with interaction_log(interactions, events, threads=threads, clock=clock) as log:
        return _write(log, definitions, interactions)


def history_sql(log: duckdb.DuckDBPyConnection, definitions: FeatureDefinitions, source: ViewSource, named: str) -> str:
    """Return a query over the rows of a history view, one per user of the relation ``log`` with wanted events.

    Args:
        log: has the relation.
        definitions: the feature service.
        source: the view.
        named: what the relation is called in messages.

    Raises:
        ConfigError: the log has ids of another type than the entities, or a ``role=history`` field or a meaning of events
            reads a column that the log does not have, or has in another type.
    """
    spec = definitions.spec
    columns = {row[0]: row[1] for row in log.execute("DESCRIBE log").fetchall()}
    for entity in (spec.user, spec.item):
        check_log_id(columns, entity, named)
    check_meaning_columns(spec.meanings, columns, named)
    kept = {
        f: log_column(log, columns, f, "log AS t", f"t.{identifier(str(f.of))}", named)
        for f in spec.history
        if f.view == source.view
    }
    user, order = identifier(spec.user.join_key), "event_timestamp, input_order"
    arrays = ", ".join(
        f"list({_marked(f, sql)} ORDER BY {order}) AS {identifier(source.columns[f.field])}" for f, sql in kept.items()
    )
    key, time = identifier(source.join_key), identifier(source.timestamp)
    return f"""SELECT {user} AS {key}, max(event_timestamp) AS {time}, {arrays}
        FROM (SELECT * FROM {with_meaning(spec.meanings, "log", "wanted")} QUALIFY row_number() OVER (
            PARTITION BY {user} ORDER BY event_timestamp DESC, input_order DESC) <= {spec.history_length}) t
        GROUP BY {user} ORDER BY {user}"""


def _write(log: duckdb.DuckDBPyConnection, definitions: FeatureDefinitions, interactions: Path) -> int:
    users = 0
    for source in definitions.sources:
        if source.side != "context":
            continue
        query = history_sql(log, definitions, source, str(interactions))
        target = _target(source, definitions, interactions)
        with new_file(target) as part:
            log.execute(f"COPY ({query}) TO {literal(part)} (FORMAT parquet)")
        counted = log.execute(f"SELECT count(*) FROM read_parquet({pattern_literal(target)})").fetchone()
        users = int(counted[0]) if counted else 0
    return users


def _target(source: ViewSource, definitions: FeatureDefinitions, interactions: Path) -> Path:
    """Return the file of a history view, if it is ours to overwrite."""
    target, tables = Path(source.path).resolve(), interactions.parent.resolve()
    taken = {(tables / name).resolve() for name in _IMPORTED}
    taken |= {Path(s.path).resolve() for s in definitions.sources if s.view != source.view}
    if target.parent != tables or target.suffix != ".parquet" or "*" in target.name:
        raise ConfigError(
            f"the arrays of view '{source.view}' would be written to {source.path}; a history view needs a Parquet file of its "
            f"own in the workspace's {tables}: correct the path of its source, or run `rf features apply` if the "
            f"workspace was moved"
        )
    if target in taken:
        raise ConfigError(
            f"the arrays of view '{source.view}' would overwrite {source.path}, which holds other data; give its source a file "
            f"of its own, such as {tables / 'user_history.parquet'}"
        )
    return target


def _marked(field: FieldSpec, column: str) -> str:
    """Return the SQL of one array element; Feast's arrays hold no nulls, so a missing value becomes a marker."""
    match field.type.element:
        case "String":
            return f"coalesce({column}, {literal(MISSING_STRING)})"
        case "Float32" | "Float64":
            return f"coalesce({column}, 'nan'::DOUBLE)"
        case "Int32" | "Int64":
            return f"coalesce({column}, {MISSING_INTEGER})"
        case _:
            return column
