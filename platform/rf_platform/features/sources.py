"""Check that the files behind feature views are there and hold what the definitions say."""

import re

import duckdb

from rf_platform.errors import ConfigError, DataError, NotFoundError
from rf_platform.features.read import ViewSource
from rf_platform.features.spec import FeatureSpec
from rf_platform.sql import identifier, literal

_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
# DuckDB's type for a Feast dtype, and the column types that may stand for it.
_DTYPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "String": ("VARCHAR", ("VARCHAR",)),
    "Int32": ("BIGINT", _INTEGERS),
    "Int64": ("BIGINT", _INTEGERS),
    "Bool": ("BOOLEAN", ("BOOLEAN",)),
    "Float32": ("DOUBLE", ("FLOAT", "DOUBLE", *_INTEGERS)),
    "Float64": ("DOUBLE", ("FLOAT", "DOUBLE", *_INTEGERS)),
    "UnixTimestamp": (
        "TIMESTAMPTZ",
        ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"),
    ),
}


def sql_type(dtype: str) -> str:
    """Return DuckDB's type for a Feast dtype, such as ``VARCHAR[]`` for ``Array(String)``."""
    element = dtype.removeprefix("Array(").removesuffix(")")
    return _DTYPES[element][0] + ("[]" if element != dtype else "")


def fits(dtype: str, column_type: str) -> bool:
    """Return whether a column of this DuckDB type may hold values of this Feast dtype."""
    element = dtype.removeprefix("Array(").removesuffix(")")
    base = re.sub(r"\[\d*\]$", "", column_type)  # lists, and arrays of a fixed size
    return (element != dtype) == (base != column_type) and base in _DTYPES[element][1]


def describe(db: duckdb.DuckDBPyConnection, path: str, what: str) -> dict[str, str]:
    """Return the columns of a Parquet file or glob with their DuckDB types.

    Raises:
        NotFoundError: nothing is there.
        DataError: it is not Parquet.
    """
    try:
        rows = db.execute(f"DESCRIBE SELECT * FROM read_parquet({literal(path)})").fetchall()
    except duckdb.IOException as error:
        raise NotFoundError(
            f"{what} reads {path}, which is not there; run `rf data import` (and `rf features materialize` for history "
            f"arrays), or correct the path of its source"
        ) from error
    except duckdb.Error as error:
        raise DataError(
            f"{what} reads {path}, which cannot be read as Parquet: {str(error).splitlines()[0]}"
        ) from error
    return {row[0]: row[1] for row in rows}


def feature_columns(db: duckdb.DuckDBPyConnection, source: ViewSource, spec: FeatureSpec) -> dict[str, str]:
    """Return the SQL expression of every feature of a view, by full name, cast to its declared dtype.

    Raises:
        NotFoundError: the file is missing.
        DataError: it is not Parquet.
        ConfigError: it lacks a column, or holds another type than the definition says; names view and field.
    """
    columns = describe(db, source.path, f"view '{source.view}'")
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
    expressions: dict[str, str] = {}
    for feature, column in source.columns.items():
        name = f"{source.view}__{feature}"
        dtype, found = spec.field(name).dtype, columns[column]
        if fits(dtype, found):
            expressions[name] = f"CAST({identifier(column)} AS {sql_type(dtype)})"
        elif _all_null(db, source.path, column):  # a column without a single value has no type of its own
            expressions[name] = f"CAST(NULL AS {sql_type(dtype)})"
        else:
            raise ConfigError(
                f"{source.view}.{feature} is declared {dtype}, but column {column!r} of {source.path} holds {found}; change "
                f"the dtype of the field or the type of the column"
            )
    return expressions


def count_rows(source: ViewSource, spec: FeatureSpec) -> int:
    """Return the number of rows behind a view, after checking it as :func:`feature_columns` does."""
    with duckdb.connect() as db:
        feature_columns(db, source, spec)
        row = db.execute(f"SELECT count(*) FROM read_parquet({literal(source.path)})").fetchone()
    return int(row[0]) if row else 0


def _all_null(db: duckdb.DuckDBPyConnection, path: str, column: str) -> bool:
    row = db.execute(f"SELECT count({identifier(column)}) FROM read_parquet({literal(path)})").fetchone()
    return row is not None and row[0] == 0
