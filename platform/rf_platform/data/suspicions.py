"""Columns of imported tables that are probably not what their type says: what was found, and the line that would mend it."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import duckdb

from rf_platform.data.guessed import NAMED_TIME
from rf_platform.data.log_columns import LOG_COLUMNS, RECOMMENDABLE
from rf_platform.data.profile import MOST, Profile, condition, profile
from rf_platform.data.report import ImportReport
from rf_platform.sql import identifier, literal, pattern_literal
from rf_platform.workspace import Workspace

_ENOUGH = 20
"""Rows from which on counts say something."""
_RARE = 0.01
_SHOWN_NAMES = (
    "title name label headline description text url link image picture photo thumbnail img href slug summary subtitle"
)
_OWN = {"user_id", "item_id", RECOMMENDABLE, *LOG_COLUMNS}


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """One thing that was found in a column."""

    table: str
    column: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.table}.{self.column}: {self.found}; {self.remedy}"


def find_suspicions(workspace: Workspace, report: ImportReport) -> list[Suspicion]:
    """Look at all columns of the imported tables but ids and those that every table has."""
    found: list[Suspicion] = []
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        for table, columns in report.columns.items():
            relation = f"read_parquet({pattern_literal(workspace.tables / f'{table}.parquet')})"
            kinds = {row[0]: row[1] for row in db.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}
            for column in columns:
                if column in _OWN or kinds[column].endswith("]"):
                    continue
                text = f"CAST({identifier(column)} AS VARCHAR)"
                counted = profile(db, relation, text)
                is_text = kinds[column] == "VARCHAR"
                said = _suspicion(db, relation, text, column, counted, is_text, column in report.display)
                if said is not None:
                    found.append(Suspicion(table=table, column=column, found=said[0], remedy=said[1]))
    return found


def _suspicion(
    db: duckdb.DuckDBPyConnection, relation: str, text: str, column: str, p: Profile, is_text: bool, shown: bool
) -> tuple[str, str] | None:
    if p.rows < _ENOUGH:
        return None
    if p.values == 0:
        return "no row has a value", "check the column's name in the mapping, or leave it out"
    if shown:
        return None
    if p.distinct == 1 and p.values >= MOST * p.rows:
        return f"all rows have the same value, {p.example!r}", "leave it out: a model learns nothing from it"
    if is_text:
        if (said := _mistyped(p, lambda check: _exception(db, relation, text, check))) is not None:
            return said
        if _is_for_people(column, p):
            return "texts or links for people", "say `display: true` in the mapping"
        if p.unique:
            return (
                f"{p.distinct:,} different texts in {p.rows:,} rows: as large as the table, so no category",
                "say `display: true` in the mapping if it is shown to people, or leave it out",
            )
    elif p.most("seconds") or p.most("ms"):
        form = "seconds" if p.most("seconds") else "ms"
        if NAMED_TIME.search(column):
            return f"numbers that look like times in {form}", f"say `type: time, format: {form}` in the mapping"
    elif p.most("excel") and NAMED_TIME.search(column):
        return (
            f"numbers that look like days as spreadsheets count them, such as {p.example!r}",
            "say `type: time, format: excel` in the mapping",
        )
    if p.values < _RARE * p.rows:
        return f"{p.values:,} of {p.rows:,} rows have a value", "check that it is read from the right column"
    return None


def _mistyped(p: Profile, exception: Callable[[str], str]) -> tuple[str, str] | None:
    """Return what a text column looks like, if most of its values are of another type."""
    if p.distinct <= 6 and p.most("truth"):
        return "truth values read as text", "say `type: bool` in the mapping"
    if p.most("iso"):
        return f"times read as text, such as {p.example!r}", f"say `type: time` in the mapping{exception('iso')}"
    if p.date_patterns and not p.most("number"):
        pattern = p.date_patterns[0]
        check = f"date {pattern.split(' ')[0]}"
        return (
            f"dates read as text, such as {p.example!r}",
            f"say `type: time, format: '{pattern}'` in the mapping{exception(check)}",
        )
    if p.share("leading_zero") <= 1 - MOST:
        if p.most("comma_number") and p.counts["decimal_comma"]:
            return (
                f"numbers with a decimal comma read as text, such as {p.example!r}",
                f"say `decimal: ','` in the mapping{exception('comma_number')}",
            )
        if p.most("number"):
            return f"numbers read as text, such as {p.example!r}", f"say `type: float`{exception('number')}"
        if p.measured:
            return (
                f"numbers with a unit read as text, such as {p.example!r}",
                "say `unit:` with it in the mapping, or take it out of the file",
            )
    if p.most("json_list"):
        return "lists in JSON read as text", "say `type: strings` (or ints, floats) in the mapping"
    if p.separator is not None and p.share("link") < 0.1 and p.share("long") < 0.5:
        return (
            f"texts that look like lists parted by {p.separator!r}",
            f'say `separator: "{p.separator}"` in the mapping',
        )
    return None


def _is_for_people(column: str, p: Profile) -> bool:
    named = set(re.split(r"[^a-z]+", column.lower())) & set(_SHOWN_NAMES.split())
    return p.most("link") or p.share("long") > 0.5 or (bool(named) and p.distinct > 0.5 * p.values)


def _exception(db: duckdb.DuckDBPyConnection, relation: str, text: str, check: str) -> str:
    """Return which values do not pass a check, with what to do about them; empty if all do."""
    rows = db.execute(
        f"SELECT v, count(*) FROM (SELECT {text} AS v FROM {relation}) WHERE v IS NOT NULL AND NOT ({condition(check)}) "
        f"GROUP BY v ORDER BY count(*) DESC, v LIMIT 3"
    ).fetchall()
    if not rows:
        return ""
    values = ", ".join(literal(str(value)[:20]) for value, _ in rows)
    return f", and `null_values: [{values}]` under csv if these mean that there is none"
