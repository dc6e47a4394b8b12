"""Profile of a column: how many values it has, and what its texts look like (numbers, times, truth values, lists, links)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import duckdb

from rf_platform.data.convert_time import ISO_TIME, SERIAL
from rf_platform.literals import COMMA_NUMBER, FALSE, NUMBER, TRUE
from rf_platform.sql import literal

MOST = 0.9
"""Share of the values from which on a column looks like something; the rest may be dirt."""
UNIT = r"(€|\$|£|¥|EUR|USD|GBP|CHF|SEK|NOK|DKK|PLN|CZK|JPY|kg|g|ml|l|cm|mm|m|%)"
"""Regular expression of units that numbers in files usually have."""
_CLOCK = "( [0-9]{1,2}:[0-9]{2}(:[0-9]{2})?( [AaPp][Mm])?)?"
PATTERNS = {
    "%d.%m.%Y": r"(0?[1-9]|[12][0-9]|3[01])[.](0?[1-9]|1[0-2])[.][0-9]{4}" + _CLOCK,
    "%d/%m/%Y": r"(0?[1-9]|[12][0-9]|3[01])/(0?[1-9]|1[0-2])/[0-9]{4}" + _CLOCK,
    "%m/%d/%Y": r"(0?[1-9]|1[0-2])/(0?[1-9]|[12][0-9]|3[01])/[0-9]{4}" + _CLOCK,
    "%d-%m-%Y": r"(0?[1-9]|[12][0-9]|3[01])-(0?[1-9]|1[0-2])-[0-9]{4}" + _CLOCK,
    "%Y/%m/%d": r"[0-9]{4}/(0?[1-9]|1[0-2])/(0?[1-9]|[12][0-9]|3[01])" + _CLOCK,
    "%d.%m.%y": r"(0?[1-9]|[12][0-9]|3[01])[.](0?[1-9]|1[0-2])[.][0-9]{2}" + _CLOCK,
    "%d/%m/%y": r"(0?[1-9]|[12][0-9]|3[01])/(0?[1-9]|1[0-2])/[0-9]{2}" + _CLOCK,
    "%m/%d/%y": r"(0?[1-9]|1[0-2])/(0?[1-9]|[12][0-9]|3[01])/[0-9]{2}" + _CLOCK,
    "%Y%m%d": r"(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])",
}
"""Patterns of dates -> regular expression of them, with a time of day or without."""
SEPARATORS = ("|", ">", ";", ",", "/")
_CHECKS = {
    "number": f"regexp_full_match(v, {literal(NUMBER)})",
    "comma_number": f"regexp_full_match(v, {literal(COMMA_NUMBER)}) AND v <> ''",
    "decimal_comma": f"contains(v, ',') AND regexp_full_match(v, {literal(COMMA_NUMBER)})",
    "thousands": r"regexp_full_match(v, '[-+]?[1-9][0-9]{0,2}([.,][0-9]{3})+')",
    "with_unit": rf"regexp_full_match(v, '({UNIT} ?[-+]?[0-9][0-9., ]*|[-+]?[0-9][0-9., ]* ?{UNIT})')",
    "leading_zero": "regexp_matches(v, '^0[0-9]')",
    "iso": f"regexp_full_match(v, {literal(ISO_TIME)})",
    "zoned": "regexp_matches(v, '([0-9] ?[Zz]|[+-][0-9]{2}:?[0-9]{2}|[A-Za-z]+/[A-Za-z_]+\\]?)$')",
    "truth": f"lower(v) IN ({', '.join(map(literal, (*TRUE, *FALSE)))})",
    "link": "regexp_matches(v, '^(https?://|www[.])')",
    "json_list": "starts_with(v, '[') AND json_valid(v)",
    "long": "length(v) > 60",
    "seconds": "TRY_CAST(v AS DOUBLE) BETWEEN 631152000 AND 4102444800",
    "ms": "TRY_CAST(v AS DOUBLE) BETWEEN 631152000000 AND 4102444800000",
    "excel": f"TRY_CAST(replace(v, ',', '.') AS DOUBLE) BETWEEN {SERIAL[0]} AND {SERIAL[1]}",
    "clock": "regexp_matches(v, '[0-9]:[0-9]{2}:[0-9]{2}')",
    "hours": "regexp_matches(v, ' [0-9]{1,2}:[0-9]{2}')",
    "half_days": "regexp_matches(v, '[0-9] [AaPp][Mm]$')",
    "float_id": "regexp_full_match(v, '-?[0-9]+[.]0+|-?[0-9][.][0-9]+[eE][+]?[0-9]+')",
    **{f"date {pattern}": f"regexp_full_match(v, {literal(form)})" for pattern, form in PATTERNS.items()},
    **{f"sep {s}": f"len(string_split(v, {literal(s)})) BETWEEN 2 AND 30" for s in SEPARATORS},
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Counts of a column."""

    rows: int
    values: int
    """Rows with a value."""
    distinct: int
    counts: Mapping[str, int] = field(default_factory=dict)
    """Of the looked-at values, how many pass each check."""
    looked_at: int
    example: str = ""

    def share(self, check: str) -> float:
        """Return the share of the values that pass a check; 0 without values."""
        return self.counts[check] / self.looked_at if self.looked_at else 0.0

    def most(self, check: str) -> bool:
        """Return whether nearly all values pass a check."""
        return self.share(check) >= MOST

    @property
    def date_patterns(self) -> list[str]:
        """Patterns that the values have, best first; a time of day is part of it."""
        fitting = sorted((p for p in PATTERNS if self.most(f"date {p}")), key=lambda p: -self.share(f"date {p}"))
        clock = " %H:%M:%S" if self.share("clock") > 0.5 else " %H:%M" if self.share("hours") > 0.5 else ""
        if clock and self.most("half_days"):
            clock = clock.replace("%H", "%I") + " %p"
        return [f"{pattern}{clock}" for pattern in fitting]

    @property
    def measured(self) -> bool:
        """Whether the values are numbers, and some of them have a unit."""
        return self.counts["with_unit"] > 0 and self.share("with_unit") + self.share("number") >= MOST

    @property
    def unique(self) -> bool:
        """Whether nearly every row has a value of its own."""
        return self.values >= MOST * self.rows and self.distinct > MOST * self.rows

    @property
    def separator(self) -> str | None:
        """Separator of the values of a list, if the texts seem to have one."""
        return next((s for s in SEPARATORS[:3] if self.share(f"sep {s}") >= 0.2), None)


_LOOKED_AT = 100_000


def profile(connection: duckdb.DuckDBPyConnection, relation: str, text: str) -> Profile:
    """Return the profile of a column.

    Args:
        connection: has the relation.
        relation: as it stands behind FROM.
        text: SQL of the value as text, NULL where there is none.
    """
    rows, values, distinct = connection.execute(
        f"SELECT count(*), count(v), count(DISTINCT v) FROM (SELECT {text} AS v FROM {relation})"
    ).fetchone() or (0, 0, 0)
    counted = ", ".join(f"count(*) FILTER ({sql})" for sql in _CHECKS.values())
    looked_at, example, *counts = connection.execute(
        f"SELECT count(*), min(v), {counted} FROM "
        f"(SELECT {text} AS v FROM {relation} WHERE {text} IS NOT NULL LIMIT {_LOOKED_AT})"
    ).fetchone() or (0, "", *(0 for _ in _CHECKS))
    return Profile(
        rows=rows,
        values=values,
        distinct=distinct,
        counts=dict(zip(_CHECKS, counts, strict=True)),
        looked_at=looked_at,
        example=example or "",
    )


def condition(check: str) -> str:
    """Return the SQL of a check on a text ``v``."""
    return _CHECKS[check]
