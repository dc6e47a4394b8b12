"""Settle what a mapping leaves open: types of ids and attributes, and how times are written.

Every decision looks at all rows of all files, never at a sample, and depends on nothing but the values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb

from rf_platform.data.convert import NUMBER, base_value, family
from rf_platform.data.convert_time import ISO_TIME
from rf_platform.data.raw import TEXT, RawFile
from rf_platform.data.specs import Field, Kind, TableSpec, TimeFormat
from rf_platform.errors import ConfigError
from rf_platform.sql import identifier

# Only such texts are numbers of an id or a code: 007 and +7 would not come back as they were.
_CANONICAL_WHOLE = "0|-?[1-9][0-9]*"
_NATIVE = {
    "int": Kind.INT,
    "float": Kind.FLOAT,
    "bool": Kind.BOOL,
    "time": Kind.TIME,
    "text": Kind.STRING,
    "int[]": Kind.INTS,
    "float[]": Kind.FLOATS,
    "text[]": Kind.STRINGS,
}
_TIME_CLASSES = (TimeFormat.ISO, TimeFormat.SECONDS, TimeFormat.MS, TimeFormat.US)


@dataclass(frozen=True)
class LoadedTable:
    """A table's spec beside its loaded files."""

    spec: TableSpec
    files: tuple[RawFile, ...]


def settle(connection: duckdb.DuckDBPyConnection, tables: Sequence[LoadedTable]) -> list[LoadedTable]:
    """Return the tables with no field left AUTO.

    Raises:
        ConfigError: the ids of one side are declared with different types.
    """
    ids = {side: _id_kind(connection, tables, side) for side in ("user", "item")}

    def settled(field: Field, files: tuple[RawFile, ...]) -> Field:
        if field.id_of is not None:
            return replace(field, kind=ids[field.id_of])
        if field.kind is Kind.AUTO:
            field = replace(field, kind=_kind(connection, files, field))
        if field.kind is Kind.TIME and field.time_format is TimeFormat.AUTO:
            field = replace(field, time_format=_time_format(connection, files, field))
        return field

    return [
        LoadedTable(replace(t.spec, fields=tuple(settled(f, t.files) for f in t.spec.fields)), t.files) for t in tables
    ]


def _id_kind(connection: duckdb.DuckDBPyConnection, tables: Sequence[LoadedTable], side: str) -> Kind:
    fields = [(f, t.files) for t in tables for f in t.spec.fields if f.id_of == side]
    declared = {f.kind for f, _ in fields} - {Kind.AUTO}
    if len(declared) > 1:
        raise ConfigError(
            f"{side} ids are declared as {' and as '.join(sorted(declared))}; give them one type in all tables"
        )
    if declared:
        return declared.pop()
    whole = all(_all_fit(connection, raw, f, _CANONICAL_WHOLE) for f, files in fields for raw in files)
    return Kind.INT if whole else Kind.STRING


def _kind(connection: duckdb.DuckDBPyConnection, files: tuple[RawFile, ...], field: Field) -> Kind:
    kinds: set[Kind] = set()
    for raw in files:
        column = raw.column(field)
        if column.type != TEXT:
            kinds.add(_NATIVE.get(family(column.type), Kind.STRING))
        elif _all_fit(connection, raw, field, _CANONICAL_WHOLE):
            kinds.add(Kind.INT)
        else:
            kinds.add(Kind.FLOAT if _all_fit(connection, raw, field, NUMBER, leading_zeros=False) else Kind.STRING)
    if len(kinds) == 1:
        return kinds.pop()
    return Kind.FLOAT if kinds == {Kind.INT, Kind.FLOAT} else Kind.STRING


def _all_fit(
    connection: duckdb.DuckDBPyConnection, raw: RawFile, field: Field, pattern: str, leading_zeros: bool = True
) -> bool:
    """Whether there are values and all of them are numbers written as ``pattern``, within 64 bits if whole."""
    column = raw.column(field)
    kind = family(column.type)
    base = base_value(raw, column, Kind.STRING)
    if kind == "int":
        return True
    if kind == "float":
        fits = "b = TRY_CAST(b AS BIGINT)"
    elif kind == "text":
        fits = f"regexp_full_match(b, '{pattern}')"
        fits += " AND TRY_CAST(b AS BIGINT) IS NOT NULL" if pattern == _CANONICAL_WHOLE else ""
        fits += "" if leading_zeros else " AND NOT regexp_matches(b, '^[+-]?0[0-9]')"
    else:
        return False
    found = connection.execute(
        f"SELECT count(b), count(*) FILTER (b IS NOT NULL AND {fits}) "
        f"FROM (SELECT {base} AS b FROM {identifier(raw.relation)})"
    ).fetchone()
    assert found is not None
    return bool(found[0] == found[1] and found[0] > 0)


def _time_format(connection: duckdb.DuckDBPyConnection, files: tuple[RawFile, ...], field: Field) -> TimeFormat:
    """Return the form that most values have: a few bad ones must not turn seconds into milliseconds."""
    votes = dict.fromkeys(_TIME_CLASSES, 0)
    for raw in files:
        column = raw.column(field)
        kind = family(column.type)
        if kind not in ("text", "int", "float"):
            return TimeFormat.ISO
        base = base_value(raw, column, Kind.TIME)
        iso = f"regexp_full_match(b, '{ISO_TIME}')" if kind == "text" else "false"
        found = connection.execute(
            f"SELECT count(*) FILTER ({iso}), count(*) FILTER (n < 1e11), count(*) FILTER (n >= 1e11 AND n < 1e14), "
            f"count(*) FILTER (n >= 1e14) FROM (SELECT b, abs(TRY_CAST(b AS DOUBLE)) AS n "
            f"FROM (SELECT {base} AS b FROM {identifier(raw.relation)}))"
        ).fetchone()
        assert found is not None
        for form, count in zip(_TIME_CLASSES, found, strict=True):
            votes[form] += count
    return max(_TIME_CLASSES, key=lambda form: votes[form])
