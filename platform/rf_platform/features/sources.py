"""Check that the files behind feature views are there and hold what the definitions say."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from rf_platform.data.convert import EXACT, base_sql, family, inexact, scalar, too_large
from rf_platform.data.specs import Kind
from rf_platform.errors import ConfigError, DataError, NotFoundError
from rf_platform.failures import as_rf_error
from rf_platform.features.dtype import Dtype
from rf_platform.features.read import ViewSource
from rf_platform.features.spec import EntitySpec, FeatureSpec
from rf_platform.sql import identifier, pattern_literal


@dataclass(frozen=True, kw_only=True)
class ViewColumns:
    """Columns that are read of a view's file, as SQL."""

    key: str
    """The id, of the type of the entity's ids, without white space at its ends."""
    time: str
    """The event timestamp, TIMESTAMPTZ."""
    created: str
    """Time at which the row became known: the created timestamp where there is one, else the event timestamp."""
    features: dict[str, str]
    """Every feature by full name, cast to its declared dtype."""


@dataclass(frozen=True)
class _Check:
    """A condition that no row of a file may meet."""

    column: str
    condition: str
    said: str


def describe(db: duckdb.DuckDBPyConnection, path: str, what: str) -> dict[str, str]:
    """Return the columns of a Parquet file or glob with their DuckDB types.

    Raises:
        NotFoundError: nothing is there.
        DataError: it is not Parquet.
    """
    try:
        rows = db.execute(f"DESCRIBE SELECT * FROM read_parquet({pattern_literal(path)})").fetchall()
    except duckdb.Error as error:
        if isinstance(as_rf_error(error), NotFoundError):
            raise NotFoundError(
                f"{what} reads {path}, which is not there; run `rf data import` (and `rf features materialize` for history "
                f"arrays), or correct the path of its source"
            ) from error
        about, remedy = f"{what} reads {path}, which cannot be read as Parquet", "make it again, or correct the path"
        raise as_rf_error(error, about=about, kind=DataError, remedy=remedy) or error from error
    return {row[0]: row[1] for row in rows}


def view_columns(db: duckdb.DuckDBPyConnection, source: ViewSource, spec: FeatureSpec) -> ViewColumns:
    """Return what is read of a view's file, after checking that it holds what the definition says.

    Raises:
        NotFoundError: the file is missing.
        DataError: it is not Parquet, or a row has no key or time, or a value that its type cannot hold; names view, column,
            file, row and value.
        ConfigError: it lacks a column, or a column holds another type than the definition says; names view and field.
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
            alike = any(name.lower() == column.lower() for name in columns)
            hint = "; case counts, and no two columns may differ in case only" if alike else ""
            raise ConfigError(
                f"view '{source.view}' needs the column {column!r}, which {source.path} does not have "
                f"(it has: {', '.join(columns)}){hint}"
            )
    entity = spec.item if source.side == "item" else spec.user
    key, checks = _key(source, columns[source.join_key], entity)
    time, of_time = _time(source, source.timestamp, columns)
    checks += [_Check(source.timestamp, f"{identifier(source.timestamp)} IS NULL", "has no time"), *of_time]
    created = time
    if source.created:
        created, of_created = _time(source, source.created, columns)
        created = f"coalesce({created}, {time})"
        checks += of_created
    features: dict[str, str] = {}
    for feature, column in source.columns.items():
        name = f"{source.view}__{feature}"
        dtype, found = spec.field(name).type, columns[column]
        if dtype.fits(found):
            features[name] = f"CAST({identifier(column)} AS {dtype.sql})"
            checks += _ranges(column, dtype, found)
        elif _all_null(db, source.path, column):  # a column without a single value has no type of its own
            features[name] = f"CAST(NULL AS {dtype.sql})"
        else:
            raise ConfigError(
                f"{source.view}.{feature} is declared {dtype}, but column {column!r} of {source.path} holds {found}; change "
                f"the dtype of the field or the type of the column"
            )
    _refuse(db, source, checks)
    return ViewColumns(key=key, time=time, created=created, features=features)


def _key(source: ViewSource, found: str, entity: EntitySpec) -> tuple[str, list[_Check]]:
    """Return the SQL of the ids, read as an import reads them, and what makes one bad."""
    kind = Kind.STRING if entity.id_type == "string" else Kind.INT
    of_column = family(found)
    if of_column not in ("text", "int", "float") or (kind is Kind.INT and of_column == "text"):
        raise ConfigError(
            f"view '{source.view}' is joined by {source.join_key!r}, which holds {found} in {source.path}, and entity "
            f"'{entity.name}' has {entity.id_type} ids; change the type of the column, or the entity's value_type"
        )
    base = base_sql(identifier(source.join_key), found, kind)
    # Floats are whole numbers of a column that once had gaps: 12.0 is the id 12, and 12.5 is none.
    whole = scalar(Kind.INT, of_column, base) if of_column == "float" else base
    value = scalar(kind, "int" if of_column == "float" else of_column, str(whole))
    checks = [
        _Check(source.join_key, f"{base} IS NULL", "has no id"),
        _Check(source.join_key, f"{value} IS NULL", f"is no {'whole number' if of_column == 'float' else '64-bit'} id"),
    ]
    if found in EXACT:
        said = "is an id that a floating-point column does not hold exactly"
        checks.append(_Check(source.join_key, inexact(base, found), said))
    return str(value), checks


def _time(source: ViewSource, column: str, columns: dict[str, str]) -> tuple[str, list[_Check]]:
    found = columns[column]
    if family(found) != "time":
        raise ConfigError(
            f"view '{source.view}' takes its times from {column!r}, which holds {found} in {source.path}; write it as a "
            f"timestamp"
        )
    time = f"CAST({identifier(column)} AS TIMESTAMPTZ)"
    outside = f"NOT isfinite({time}) OR year({time}) NOT BETWEEN 1 AND 9999"
    return time, [_Check(column, outside, "is a time outside the years 1 to 9999")]


def _ranges(column: str, dtype: Dtype, found: str) -> list[_Check]:
    """Return what the declared dtype cannot hold, although the type of the column can."""
    name = identifier(column)
    if dtype == Dtype("Int32") and found in ("BIGINT", "UINTEGER"):
        return [_Check(column, f"{name} NOT BETWEEN {-(2**31)} AND {2**31 - 1}", "does not fit the declared Int32")]
    if dtype == Dtype("Float32") and found == "DOUBLE":
        return [_Check(column, too_large(name), "is larger than any 32-bit float")]
    return []


def _refuse(db: duckdb.DuckDBPyConnection, source: ViewSource, checks: Sequence[_Check]) -> None:
    """Refuse a file for the first check that a row of it fails.

    Raises:
        DataError: names view, column, file, row and value, and how many rows are bad.
    """
    relation = f"FROM read_parquet({pattern_literal(source.path)})"
    counted = ", ".join(f"count(*) FILTER ({check.condition})" for check in checks)
    found = db.execute(f"SELECT {counted} {relation}").fetchone() or ()
    for check, rows in zip(checks, found, strict=True):
        if not rows:
            continue
        value, file, row = db.execute(
            f"SELECT CAST({identifier(check.column)} AS VARCHAR), filename, file_row_number + 1 {relation} "
            f"WHERE {check.condition} LIMIT 1"
        ).fetchall()[0]
        shown = "" if value is None else f" {value!r}"
        raise DataError(
            f"view '{source.view}': column {check.column!r}{shown} {check.said} in row {row} of {file}, and in {rows:,} "
            f"rows in all; mend the file"
        )


def check_file(source: ViewSource, spec: FeatureSpec) -> None:
    """Check the file behind a view; raises as :func:`view_columns` does."""
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        view_columns(db, source, spec)


def _all_null(db: duckdb.DuckDBPyConnection, path: str, column: str) -> bool:
    row = db.execute(f"SELECT count({identifier(column)}) FROM read_parquet({pattern_literal(path)})").fetchone()
    return row is not None and row[0] == 0
