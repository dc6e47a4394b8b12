"""The interaction log against the definitions: its ids, and the columns that history fields keep."""

import duckdb

from rf_platform.errors import ConfigError
from rf_platform.features.field_rule import element_of
from rf_platform.features.sources import fits, sql_type
from rf_platform.features.spec import EntitySpec, FieldSpec


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
    if not fits("String" if entity.id_type == "string" else "Int64", found):
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
    element = element_of(field.dtype)
    found = columns.get(str(field.of))
    if found is None:
        raise ConfigError(
            f"{field.view}.{field.field} keeps the column {field.of!r}, which the interaction log {log} does not have "
            f"(it has: {', '.join(columns)})"
        )
    if fits(element, found):
        return f"CAST({sql} AS {sql_type(element)})"
    row = db.execute(f"SELECT count({sql}) FROM {relation}").fetchone()
    if row is not None and row[0] == 0:  # a column without a value has no type of its own
        return f"CAST(NULL AS {sql_type(element)})"
    raise ConfigError(
        f"{field.view}.{field.field} is declared {field.dtype}, but column {field.of!r} of the interaction log {log} "
        f"holds {found}; change the dtype of the field or the type of the column"
    )
