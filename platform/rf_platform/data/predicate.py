"""Conditions of a mapping on a column, as SQL over its values: they pass items as a filter of the same words would."""

import re
from collections.abc import Sequence
from typing import Literal

from rf_platform.conditions import WrittenCondition, parse_alternatives, parse_condition
from rf_platform.data.convert_time import iso_sql
from rf_platform.errors import UsageError
from rf_platform.literals import NUMBER, Writing, read_time
from rf_platform.sql import literal

_EXAMPLE = "stock > 0"
_CODE = "^[+-]?0[0-9]"
"""Beginning of what looks like a number and is none, such as 007."""


def parse_predicate(text: str) -> WrittenCondition:
    """Read the one condition of a column.

    Raises:
        UsageError: it is none, or one that a column of a file is not compared by.
    """
    found, *others = parse_alternatives(text, "the condition", _EXAMPLE)
    if others or found.negated:
        raise UsageError(
            f"the condition {text!r}: 'or' and 'not' are for filters; write one condition, such as {_EXAMPLE!r}, or name a "
            f"column that says it"
        )
    if found.sign == "all":
        raise UsageError("'all' is for lists; compare with =, !=, <, <=, > or >=")
    if found.sign in ("<", "<=", ">", ">="):
        (value, *more) = found.values
        if more or (re.fullmatch(NUMBER, value) is None and read_time(value) is None):
            raise UsageError(
                f"the condition {text!r}: {found.sign} compares with one number or time, such as 10 or 2026-10-01, and not "
                f"with {', '.join(map(repr, found.values))}"
            )
    return found


def named_column(text: str) -> tuple[str, str | None]:
    """Return the column that a condition is about, and the condition; None where a column alone is named."""
    if not is_condition(text):
        return text.strip(), None
    return parse_condition(text, "the condition", _EXAMPLE).name, text


def is_condition(text: str) -> bool:
    """Return whether a text is meant as a condition, and not as the name of a column."""
    return re.search(r"[=<>]|\b(present|absent)\s*$", text) is not None


def compared_as(text: str) -> Literal["text", "number", "time", "presence"]:
    """Return what a condition compares the column's values as."""
    found = parse_condition(text, "the condition", _EXAMPLE)
    if not found.values:
        return "presence"
    if found.sign in ("=", "!="):
        return "text"
    return "number" if re.fullmatch(NUMBER, found.values[0]) else "time"


def passes_sql(text: str, base: str, written: str, number: str, truth: str, time: str, writing: Writing) -> str:
    """Return the SQL of 1 where a value passes a condition and 0 where it does not; NULL passes ``!=`` and ``absent`` only.

    Args:
        text: the condition.
        base: SQL of the value, NULL where there is none.
        written: of the value as text.
        number: of the value as number, NULL where it is none.
        truth: of the value as 1 or 0, NULL where it is no truth value.
        time: of the value as time, NULL where it is none.
        writing: how times without a zone are meant.
    """
    found = parse_condition(text, "the condition", _EXAMPLE)
    match found.sign:
        case "present" | "absent":
            passes = f"{base} IS {'NOT ' if found.sign == 'present' else ''}NULL"
        case "=" | "!=":
            among = _among(found.values, written, number, truth)
            passes = among if found.sign == "=" else f"NOT {among}"
        case _ if compared_as(text) == "number":
            passes = f"coalesce({number} {found.sign} {float(found.values[0])!r}, false)"
        case _:
            passes = f"coalesce({time} {found.sign} {iso_sql(literal(found.values[0]), writing.timezone)}, false)"
    return f"CAST({passes} AS BIGINT)"


def _among(values: Sequence[str], written: str, number: str, truth: str) -> str:
    """Return the SQL of whether a value is one of some: by its text, or as the number or truth value that it is of the same."""
    ways = [f"{written} IN ({', '.join(map(literal, values))})"]
    if numbers := [value for value in values if re.fullmatch(NUMBER, value) and not re.match(_CODE, value)]:
        same = f"{number} IN ({', '.join(repr(float(value)) for value in numbers)})"
        ways.append(f"{same} AND NOT regexp_matches({written}, {literal(_CODE)})")
    if truths := [str(int(value.lower() == "true")) for value in values if value.lower() in ("true", "false")]:
        ways.append(f"{truth} IN ({', '.join(truths)})")
    return f"({' OR '.join(f'coalesce({way}, false)' for way in ways)})"
