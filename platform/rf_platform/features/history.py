"""The online form of a user's recent interactions: one row per user with aligned arrays, oldest first.

Built from the interaction log by the definitions themselves: every ``role=history`` field keeps the log's column named by its
tag ``of``. Training never reads these rows; it slices the log (an as-of join against a per-event copy of the arrays would
be quadratic and leak nothing less).
"""

import os
from pathlib import Path

import duckdb

from rf_platform.errors import ConfigError
from rf_platform.features.read import FeatureDefinitions
from rf_platform.features.spec import MISSING_INTEGER, MISSING_STRING, FieldSpec


def write_user_history(definitions: FeatureDefinitions, interactions: Path) -> int:
    """Write the Parquet file behind every history view and return the number of users.

    Raises:
        ConfigError: a ``role=history`` field keeps a column that the log does not have.
    """
    spec = definitions.spec
    users = 0
    log = duckdb.connect()
    log.execute("SET TimeZone = 'UTC'")
    log.execute(f"CREATE VIEW log AS SELECT * FROM read_parquet('{interactions}')")
    columns = [row[0] for row in log.execute("DESCRIBE log").fetchall()]
    for source in definitions.sources:
        if source.side != "context":
            continue
        kept = [f for f in spec.history if f.view == source.view]
        for field in kept:
            if field.of not in columns:
                raise ConfigError(
                    f"{field.view}.{field.field} keeps the column {field.of!r}, which the interaction log {interactions} "
                    f"does not have (it has: {', '.join(columns)})"
                )
        user, order = spec.user.join_key, "event_timestamp, input_order"
        arrays = ", ".join(f'list({_marked(f)} ORDER BY {order}) AS "{source.columns[f.field]}"' for f in kept)
        target = Path(source.path)
        temporary = target.with_suffix(".tmp")
        log.execute(
            f"""COPY (
                SELECT "{user}" AS "{source.join_key}", max(event_timestamp) AS "{source.timestamp}", {arrays}
                FROM (SELECT * FROM log QUALIFY row_number() OVER (
                    PARTITION BY "{user}" ORDER BY event_timestamp DESC, input_order DESC) <= {spec.history_length}) t
                GROUP BY "{user}" ORDER BY "{user}"
            ) TO '{temporary}' (FORMAT parquet)"""
        )
        os.replace(temporary, target)
        counted = log.execute(f"SELECT count(*) FROM read_parquet('{target}')").fetchone()
        users = int(counted[0]) if counted else 0
    return users


def _marked(field: FieldSpec) -> str:
    """Return the SQL of one array element; Feast's arrays hold no nulls, so a missing value becomes a marker."""
    column = f't."{field.of}"'
    match field.dtype:
        case "Array(String)":
            return f"coalesce({column}, '{MISSING_STRING}')"
        case "Array(Float32)" | "Array(Float64)":
            return f"coalesce({column}, 'nan'::DOUBLE)"
        case "Array(Int32)" | "Array(Int64)":
            return f"coalesce({column}, {MISSING_INTEGER})"
        case _:
            return column
