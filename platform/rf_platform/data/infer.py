"""Settle what a mapping leaves open: types of ids and attributes, and how times are written.

Every decision looks at all rows of all files, never at a sample, and depends on nothing but the values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb

from rf_platform.data.convert import EXACT, base_value, family, field_column
from rf_platform.data.convert_time import ISO_TIME, SMALLEST
from rf_platform.data.raw import EMPTY, TEXT, RawFile
from rf_platform.data.specs import Field, Kind, TableSpec, TimeFormat
from rf_platform.errors import ConfigError
from rf_platform.literals import COMMA_NUMBER, NUMBER
from rf_platform.sql import identifier, literal

# Only such texts are numbers of an id or a code: 007 and +7 would not come back as they were.
CANONICAL_WHOLE = "0|-?[1-9][0-9]*"
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
_TIME_CLASSES = (TimeFormat.ISO, TimeFormat.SECONDS, *SMALLEST)


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

    return [_settled(connection, table, ids) for table in tables]


def _settled(connection: duckdb.DuckDBPyConnection, table: LoadedTable, ids: dict[str, Kind]) -> LoadedTable:
    fields, files = [], table.files
    for field in table.spec.fields:
        if field.id_of is not None:
            field = replace(field, kind=ids[field.id_of])
        elif field.kind is Kind.AUTO:
            field = replace(field, kind=_kind(connection, files, field))
        if field.kind is Kind.TIME and field.time_format is TimeFormat.AUTO:
            form, of_file = _time_formats(connection, files, field)
            files = tuple(
                replace(raw, time_formats={**raw.time_formats, field.name: own or form})
                for raw, own in zip(files, of_file, strict=True)
            )
            field = replace(field, time_format=form, time_found=True)
        fields.append(field)
    return LoadedTable(replace(table.spec, fields=tuple(fields)), files)


def _id_kind(connection: duckdb.DuckDBPyConnection, tables: Sequence[LoadedTable], side: str) -> Kind:
    fields = [(f, t.files) for t in tables for f in t.spec.fields if f.id_of == side]
    declared = {f.kind for f, _ in fields} - {Kind.AUTO}
    if len(declared) > 1:
        raise ConfigError(
            f"{side} ids are declared as {' and as '.join(sorted(declared))}; give them one type in all tables"
        )
    if declared:
        return declared.pop()
    votes = [_values(connection, raw, f) for f, files in fields for raw in files]
    whole = {votes.whole_in_64_bits for votes in votes if votes.values}
    return Kind.INT if whole == {True} else Kind.STRING


def _kind(connection: duckdb.DuckDBPyConnection, files: tuple[RawFile, ...], field: Field) -> Kind:
    """Return the type that the values of all files have; a file without a value has no vote."""
    kinds: set[Kind] = set()
    found = [values for raw in files if (values := _values(connection, raw, field)).values]
    for values in found:
        if values.in_text_file:
            # Whole numbers beyond 64 bits are codes: as a float they would lose their last digits.
            plain = Kind.FLOAT if values.numbers and not values.whole else Kind.STRING
            kinds.add(Kind.INT if values.whole_in_64_bits else plain)
        elif values.family == "int":
            kinds.add(Kind.INT if values.whole_in_64_bits else Kind.STRING)
        else:
            kinds.add(_NATIVE.get(values.family, Kind.STRING))
    if len(kinds) == 1:
        return kinds.pop()
    if kinds == {Kind.INT, Kind.FLOAT}:
        # A whole number that no float holds exactly stays one beside floats that are whole (pandas: a column with gaps).
        exact = any(v.beyond_floats for v in found) and all(v.whole_in_64_bits for v in found)
        return Kind.INT if exact else Kind.FLOAT
    return Kind.FLOATS if kinds == {Kind.INTS, Kind.FLOATS} else Kind.STRING


@dataclass(frozen=True, kw_only=True)
class _Values:
    """Properties that all values of a column in one file have."""

    family: str
    in_text_file: bool
    """A text of a Parquet file is one, whatever it says."""
    values: int
    """Number of values."""
    whole_in_64_bits: bool = False
    """All are whole numbers within 64 bits, written as such."""
    whole: bool = False
    """All are whole numbers of any size, written as such."""
    numbers: bool = False
    """All are numbers, none with leading zeros."""
    beyond_floats: bool = False
    """There is a whole number that a 64-bit float may not hold exactly."""


def _values(connection: duckdb.DuckDBPyConnection, raw: RawFile, field: Field) -> _Values:
    column = field_column(raw, field)
    kind = family(column.type)
    if column.type == EMPTY:
        return _Values(family=kind, in_text_file=False, values=0)
    number = "true"
    if kind == "text":
        whole = f"regexp_full_match(b, '{CANONICAL_WHOLE}')"
        form = NUMBER if field.writing.decimal == "." else COMMA_NUMBER
        number = f"(regexp_full_match(b, {literal(form)}) AND NOT regexp_matches(b, '^[+-]?0[0-9]'))"
    elif kind in ("int", "float"):
        whole = "true" if kind == "int" else "b = TRY_CAST(b AS BIGINT)"
    else:
        whole = number = "false"
    integer = "CAST(NULL AS BIGINT)" if whole == "false" else "TRY_CAST(b AS BIGINT)"
    counted = connection.execute(
        f"SELECT count(b), count(b) FILTER (whole AND integer IS NOT NULL), count(b) FILTER (whole), "
        f"count(b) FILTER (CASE WHEN whole THEN true ELSE {number} END), "
        f"count(b) FILTER (whole AND integer NOT BETWEEN {-EXACT['DOUBLE']} AND {EXACT['DOUBLE']}) "
        f"FROM (SELECT b, {whole} AS whole, {integer} AS integer FROM "
        f"(SELECT {base_value(raw, column, Kind.STRING)} AS b FROM {identifier(raw.relation)}))"
    ).fetchone()
    values, *fitting, large = counted or (0, 0, 0, 0, 0)
    small, all_whole, numbers = (values > 0 and n == values for n in fitting)
    return _Values(
        family=kind,
        in_text_file=column.type == TEXT,
        values=values,
        whole_in_64_bits=small,
        whole=all_whole,
        numbers=numbers,
        beyond_floats=large > 0 and kind != "float",
    )


def _time_formats(
    connection: duckdb.DuckDBPyConnection, files: tuple[RawFile, ...], field: Field
) -> tuple[TimeFormat, list[TimeFormat | None]]:
    """Return how most times of a table are written, and those of each file (None: no time at all).

    The form is that of most values of a file: a few bad ones must not turn seconds into milliseconds.
    """
    votes = dict.fromkeys(_TIME_CLASSES, 0)
    of_file: list[TimeFormat | None] = []
    for raw in files:
        column = raw.column(field)
        kind = family(column.type)
        if kind not in ("text", "int", "float"):
            counts = [0] * len(_TIME_CLASSES) if column.type == EMPTY else [raw.rows, *[0] * (len(_TIME_CLASSES) - 1)]
        else:
            base = base_value(raw, column, Kind.TIME)
            iso = f"regexp_full_match(b, '{ISO_TIME}')" if kind == "text" else "false"
            limits = [1, *SMALLEST.values()]
            sizes = (
                f"count(*) FILTER (n >= {low}" + (f" AND n < {high})" if high else ")")
                for low, high in zip(limits, [*limits[1:], None], strict=True)
            )
            found = connection.execute(
                f"SELECT count(*) FILTER ({iso}), {', '.join(sizes)}, count(*) FILTER (n < 1) "
                f"FROM (SELECT b, abs(TRY_CAST(b AS DOUBLE)) AS n FROM (SELECT {base} AS b FROM {identifier(raw.relation)}))"
            ).fetchone()
            *counts, zeros = found or [0] * (len(_TIME_CLASSES) + 1)
            if not any(counts):  # a zero is one in every unit
                counts[_TIME_CLASSES.index(TimeFormat.SECONDS)] = zeros
        for form, count in zip(_TIME_CLASSES, counts, strict=True):
            votes[form] += count
        of_file.append(_TIME_CLASSES[counts.index(max(counts))] if any(counts) else None)
    return max(_TIME_CLASSES, key=lambda form: votes[form]), of_file
