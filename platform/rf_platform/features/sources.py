"""Check that the files behind feature views are there and hold what the definitions say."""

import duckdb

from rf_platform.errors import ConfigError, NotFoundError
from rf_platform.features.read import ViewSource


def describe_source(source: ViewSource) -> dict[str, str]:
    """Return the columns of a view's file with their DuckDB types.

    Raises:
        NotFoundError: the file is missing.
        ConfigError: it lacks the join key, a timestamp or a feature's column.
    """
    try:
        rows = duckdb.sql(f"DESCRIBE SELECT * FROM read_parquet('{source.path}')").fetchall()
    except duckdb.IOException as error:
        raise NotFoundError(
            f"view '{source.view}' reads {source.path}, which is not there; run `rf data import` (and `rf features "
            f"materialize` for history arrays), or correct the path of its source"
        ) from error
    columns = {row[0]: row[1] for row in rows}
    needed = [
        source.join_key,
        source.timestamp,
        *([source.created] if source.created else []),
        *source.columns.values(),
    ]
    for column in needed:
        if column not in columns:
            raise ConfigError(
                f"view '{source.view}' needs the column {column!r}, which {source.path} does not have "
                f"(it has: {', '.join(columns)})"
            )
    return columns


def count_rows(source: ViewSource) -> int:
    """Return the number of rows behind a view, after :func:`describe_source`."""
    describe_source(source)
    row = duckdb.sql(f"SELECT count(*) FROM read_parquet('{source.path}')").fetchone()
    return int(row[0]) if row else 0
