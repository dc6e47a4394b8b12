"""Raw values to typed ones, as DuckDB SQL: per column the value, and the conditions under which the row is refused.

Two steps: the *base* value is the raw one with every spelling of "no value" made NULL; the value proper is computed from it.
"""

import re
from dataclasses import dataclass, replace

from rf_platform.data.bad_rows import Reason
from rf_platform.data.convert_time import iso_sql, time_checks, time_value
from rf_platform.data.predicate import compared_as, passes_sql
from rf_platform.data.raw import EMPTY, TEXT, RawColumn, RawFile
from rf_platform.data.specs import Field, Kind
from rf_platform.data.text_stream import UNDECODABLE
from rf_platform.errors import DataError
from rf_platform.literals import COMMA_GROUPS, COMMA_NUMBER, FALSE, NUMBER, PLAIN, TRUE, WHOLE, Writing
from rf_platform.sql import literal
from rf_platform.text import trimmed_sql

_NUMBER_NAN_INF = rf"{NUMBER}|[+-]?([nN][aA][nN]|[iI][nN][fF]([iI][nN][iI][tT][yY])?)"
_TRUE, _FALSE = (f"({', '.join(map(literal, texts))})" for texts in (TRUE, FALSE))
SQL_TYPES = {
    Kind.INT: "BIGINT",
    Kind.FLOAT: "DOUBLE",
    Kind.BOOL: "BIGINT",
    Kind.STRING: "VARCHAR",
    Kind.TIME: "TIMESTAMPTZ",
    Kind.INTS: "BIGINT[]",
    Kind.FLOATS: "FLOAT[]",
    Kind.STRINGS: "VARCHAR[]",
}
"""DuckDB's type of a converted column."""
_LISTS = {Kind.INTS: Kind.INT, Kind.FLOATS: Kind.FLOAT, Kind.STRINGS: Kind.STRING}
_EXPECTED = {
    Kind.INT: "expected a whole number",
    Kind.FLOAT: "expected a number",
    Kind.BOOL: "expected true or false",
    Kind.INTS: "expected whole numbers",
    Kind.FLOATS: "expected numbers",
    Kind.STRINGS: "expected a list in JSON; if it is written otherwise, give a `separator`",
}


_BYTES = r"\x and two digits stand for a byte; if the file is in another encoding, say so: `csv: {encoding: cp1252}`"
_LARGEST = 3.4028234663852886e38
_TOO_LARGE = "no 32-bit float, which the model computes with, can hold it"
EXACT = {"FLOAT": 2**24, "DOUBLE": 2**53}
"""DuckDB's floating-point types, and the number from which on they do not hold every whole number."""
_INEXACT = "a floating-point column does not hold such whole numbers exactly; write it as whole numbers or as text"


@dataclass(frozen=True, kw_only=True)
class Check:
    """A condition that makes a row bad."""

    reason: Reason
    condition: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """SQL of one column; ``value`` and ``checks`` may use the names the caller gives to base and value."""

    base: str
    value: str
    checks: tuple[Check, ...]


def family(duck_type: str) -> str:
    """Return the family of a raw type: text, int, float, bool, time, a list of one of these as ``int[]``, or other.

    Decimals without a fraction are whole numbers: that is how some warehouses write all of them.
    """
    if duck_type.endswith("]"):
        return f"{family(duck_type[: duck_type.rindex('[')])}[]"
    name = duck_type.partition("(")[0]
    if name in (TEXT, "VARCHAR", "UUID", "ENUM"):
        return "text"
    whole = name == "DECIMAL" and duck_type.endswith(",0)")
    if whole or name.removeprefix("U") in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"):
        return "int"
    if name in ("FLOAT", "DOUBLE", "DECIMAL"):
        return "float"
    if name == "DATE" or name.startswith("TIMESTAMP"):
        return "time"
    return "bool" if name == "BOOLEAN" else "other"


def too_large(number: str) -> str:
    """Return the SQL condition that a finite number is one that no 32-bit float can hold."""
    return f"(abs({number}) > {_LARGEST!r} AND isfinite({number}))"


def inexact(number: str, duck_type: str) -> str:
    """Return the SQL condition that a whole number in a floating-point column may be another than was meant."""
    return f"abs({number}) >= {EXACT[duck_type]}"


def base_value(raw: RawFile, column: RawColumn, kind: Kind) -> str:
    """Return the raw value with NULL wherever there is none, as :func:`base_sql` does."""
    return base_sql(column.sql, column.type, kind, raw.null_values)


def base_sql(sql: str, duck_type: str, kind: Kind, null_values: tuple[str, ...] = ()) -> str:
    """Return a value with NULL wherever there is none: empty or blank text, a missing-value text, NaN in a whole number."""
    kind_of_raw = family(duck_type)
    if kind_of_raw == "text":
        text = trimmed_sql(sql if duck_type in (TEXT, "VARCHAR") else f"CAST({sql} AS VARCHAR)")
        for missing in ("", *null_values):
            text = f"nullif({text}, {literal(missing)})"
        return text
    if kind_of_raw == "float" and kind is not Kind.FLOAT and not duck_type.startswith("DECIMAL"):
        return f"CASE WHEN NOT isnan({sql}) THEN {sql} END"
    return sql


def convert(raw: RawFile, field: Field, base: str, value: str, now: str) -> Conversion:
    """Return how a field is computed and checked.

    Args:
        raw: the file it is read from.
        field: a field of known kind and time format (not AUTO).
        base: name under which checks and the value refer to the base value.
        value: name under which checks refer to the value.
        now: SQL of the moment after which a time lies in the future.

    Raises:
        DataError: the column's type in the file can never become the field's kind.
    """
    column = field_column(raw, field)
    kind_of_raw = family(column.type)
    sql: str | None
    if column.type == EMPTY:
        sql = f"CAST(NULL AS {SQL_TYPES[field.kind]})"
    elif field.passes is not None:
        sql = _passes(field, field.passes, column.type, base)
    elif field.kind is Kind.TIME:
        sql = time_value(field, column, kind_of_raw, base, raw.file.name)
    elif field.kind in _LISTS:
        sql = _list(field, kind_of_raw, base)
    else:
        sql = scalar(field.kind, kind_of_raw, _without_units(base, kind_of_raw, field.units), field.writing)
    if sql is None:
        raise DataError(
            f"{raw.file.name}: column {field.column!r} has the type {column.type}, which cannot be read as {field.kind} "
            f"(for {field.name})"
        )
    checks: list[Check] = []
    if raw.undecodable and column.type == TEXT:
        checks.append(
            Check(reason=Reason.ENCODING, condition=f"contains({base}, {literal(UNDECODABLE)})", detail=_BYTES)
        )
    if field.key:
        checks.append(Check(reason=Reason.NULL_KEY, condition=f"{base} IS NULL", detail=""))
    elif field.required:
        checks.append(Check(reason=Reason.MISSING_VALUE, condition=f"{base} IS NULL", detail=""))
    if field.kind is Kind.TIME:
        checks += [Check(reason=r, condition=c, detail=d) for r, c, d in time_checks(field, base, value, now)]
    else:
        if column.type in EXACT and (field.kind is Kind.INT or field.id_of):
            checks.append(Check(reason=Reason.OUT_OF_RANGE, condition=inexact(base, column.type), detail=_INEXACT))
        checks += _value_checks(field, base, value)
    return Conversion(base=base_value(raw, column, field.kind), value=sql, checks=tuple(checks))


def field_column(raw: RawFile, field: Field) -> RawColumn:
    """Return the column a field is read from; where it has a fallback, that of both.

    Raises:
        DataError: the file has no such column.
    """
    own = raw.column(field)
    if field.fallback is None:
        return own
    other = raw.column(replace(field, column=field.fallback, fallback=None))
    if not field.prefix and own.type == other.type:
        parts = [base_value(raw, each, field.kind) for each in (own, other)]
        return RawColumn(sql=f"coalesce({', '.join(parts)})", type=own.type)
    texts = [
        scalar(Kind.STRING, family(each.type), base_value(raw, each, Kind.STRING)) if each.type != EMPTY else None
        for each in (own, other)
    ]
    prefix = f"{literal(field.prefix)} || " if field.prefix else ""
    kind = TEXT if TEXT in (own.type, other.type) else "VARCHAR"
    return RawColumn(sql=f"coalesce({texts[0] or 'NULL'}, {prefix}{texts[1] or 'NULL'})", type=kind)


def _passes(field: Field, condition: str, duck_type: str, base: str) -> str | None:
    """Return the SQL of whether a value passes the field's condition, or None if it is of a type that is never compared so."""
    of_raw = family(duck_type)
    text = scalar(Kind.STRING, of_raw, base)
    compared = compared_as(condition)
    number = scalar(Kind.FLOAT, of_raw, base, field.writing)
    time = base if duck_type == "TIMESTAMP WITH TIME ZONE" else iso_sql(text or "NULL", field.writing.timezone)
    if (compared == "text" and text is None) or (compared == "number" and number is None):
        return None
    truth = scalar(Kind.BOOL, of_raw, base)
    return passes_sql(
        condition, base, text or "CAST(NULL AS VARCHAR)", number or "NULL", truth or "NULL", time, field.writing
    )


def _without_units(text: str, of_raw: str, units: tuple[str, ...]) -> str:
    """Return the SQL of a text without a unit at its beginning or end."""
    if of_raw != "text" or not units:
        return text
    any_unit = "|".join(re.escape(unit) for unit in sorted(units, key=len, reverse=True))
    return trimmed_sql(f"regexp_replace({text}, {literal(f'^({any_unit})|({any_unit})$')}, '')")


def with_point(text: str, writing: Writing) -> str:
    """Return the SQL of a number's text with a decimal point, NULL where it is no number with a decimal comma."""
    if writing.decimal == ".":
        return text
    plain = f"replace(regexp_replace({text}, {literal(COMMA_GROUPS)}, '', 'g'), ',', '.')"
    return f"CASE WHEN regexp_full_match({text}, {literal(COMMA_NUMBER)}) THEN {plain} END"


def scalar(kind: Kind, kind_of_raw: str, x: str, writing: Writing = PLAIN) -> str | None:
    """Return the SQL of a single value of a kind, NULL where it is none, or None if the family of raw types never is one."""
    if kind in (Kind.INT, Kind.FLOAT) and kind_of_raw == "text":
        x = with_point(x, writing)
    whole = f"CASE WHEN {x} = TRY_CAST({x} AS BIGINT) THEN TRY_CAST({x} AS BIGINT) END"
    match kind, kind_of_raw:
        case Kind.STRING, "text":
            return x
        case Kind.STRING, "int" | "bool" | "time":
            return f"CAST({x} AS VARCHAR)"
        case Kind.STRING, "float":  # 12.0 is how pandas writes the whole number 12 of a column with gaps
            return f"coalesce(CAST({whole} AS VARCHAR), CAST({x} AS VARCHAR))"
        case Kind.INT, "text":
            return f"CASE WHEN regexp_full_match({x}, '{WHOLE}') THEN TRY_CAST(split_part({x}, '.', 1) AS BIGINT) END"
        case Kind.INT, "int":
            return f"TRY_CAST({x} AS BIGINT)"
        case Kind.INT, "float":
            return whole
        case Kind.FLOAT, "text":
            return f"CASE WHEN regexp_full_match({x}, '{_NUMBER_NAN_INF}') THEN TRY_CAST({x} AS DOUBLE) END"
        case Kind.FLOAT, "int" | "float":
            return f"CAST({x} AS DOUBLE)"
        case Kind.BOOL, "text":
            return f"CASE WHEN lower({x}) IN {_TRUE} THEN 1 WHEN lower({x}) IN {_FALSE} THEN 0 END::BIGINT"
        case Kind.BOOL, "bool":
            return f"CAST({x} AS BIGINT)"
        case Kind.BOOL, "int":
            return f"CASE WHEN {x} IN (0, 1) THEN CAST({x} AS BIGINT) END"
    return None


def _list(field: Field, kind_of_raw: str, x: str) -> str | None:
    element = _LISTS[field.kind]
    if kind_of_raw == "text":
        listed = f"json_valid({x}) AND starts_with({x}, '[')"
        items = f"CASE WHEN {listed} THEN list_filter(from_json({x}, '[\"VARCHAR\"]'), lambda v: v IS NOT NULL) END"
        if field.writing.separator is not None:
            text = x if element is Kind.STRING else f"trim({x}, '[]')"
            split = f"string_split({text}, {literal(field.writing.separator)})"
            items = f"coalesce({items}, {split})"
        items = f"list_filter(list_transform({items}, lambda v: {trimmed_sql('v')}), lambda v: v <> '')"
        return _cast_list(element, "text", items, field.writing)
    if not kind_of_raw.endswith("[]"):
        return None
    of_raw = kind_of_raw.removesuffix("[]")
    # A null among the values of a bag says nothing; in a vector it would shift the rest, so it stays and is refused.
    items = x if element is Kind.FLOAT else f"list_filter({x}, lambda v: v IS NOT NULL)"
    if of_raw == "text":
        items = f"list_filter(list_transform({items}, lambda v: {trimmed_sql('v')}), lambda v: v <> '')"
    return _cast_list(element, of_raw, items, field.writing)


def _cast_list(element: Kind, of_raw: str, items: str, writing: Writing) -> str | None:
    if element is Kind.STRING and of_raw == "text":
        return items
    value = scalar(element, of_raw, "v", writing)
    if value is None:
        return None
    return f"list_transform({items}, lambda v: {value})"


def _value_checks(field: Field, base: str, value: str) -> list[Check]:
    expected = _EXPECTED.get(field.kind, "")
    found: list[Check] = []
    if field.kind in _LISTS:
        none = f"({base} IS NOT NULL AND {value} IS NULL)"
        found.append(
            Check(reason=Reason.WRONG_TYPE, condition=f"{none} OR {_any(value, 'v IS NULL')}", detail=expected)
        )
        if field.kind is Kind.FLOATS:
            found.append(Check(reason=Reason.NAN, condition=_any(value, "isnan(v)"), detail="in a list"))
            found.append(Check(reason=Reason.OUT_OF_RANGE, condition=_any(value, "isinf(v)"), detail="infinite"))
            found.append(Check(reason=Reason.OUT_OF_RANGE, condition=_any(value, too_large("v")), detail=_TOO_LARGE))
        return found
    if field.kind is Kind.STRING or (field.passes is not None and compared_as(field.passes) != "number"):
        return found
    found.append(Check(reason=Reason.WRONG_TYPE, condition=f"{base} IS NOT NULL AND {value} IS NULL", detail=expected))
    if field.kind is Kind.FLOAT:
        found.append(Check(reason=Reason.NAN, condition=f"isnan({value})", detail="expected a number"))
        found.append(Check(reason=Reason.OUT_OF_RANGE, condition=f"isinf({value})", detail="infinite"))
        found.append(Check(reason=Reason.OUT_OF_RANGE, condition=too_large(value), detail=_TOO_LARGE))
    if field.minimum is not None:
        condition, detail = f"{value} < {field.minimum!r}", f"expected at least {field.minimum:g}"
        found.append(Check(reason=Reason.OUT_OF_RANGE, condition=condition, detail=detail))
    if field.maximum is not None:
        condition, detail = f"{value} > {field.maximum!r}", f"expected at most {field.maximum:g}"
        found.append(Check(reason=Reason.OUT_OF_RANGE, condition=condition, detail=detail))
    return found


def _any(values: str, condition: str) -> str:
    return f"len(list_filter({values}, lambda v: {condition})) > 0"
