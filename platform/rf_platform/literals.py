"""Grammar of values that are written as text: truth values, numbers, times and lists, the same in files, requests and filters.

An import says it in SQL (:mod:`rf_platform.data.convert`), everything else by the functions here; both read a text alike.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from rf_platform.errors import ConfigError
from rf_platform.text import trimmed

Decimal = Literal[".", ","]
TRUE = ("true", "t", "yes", "y", "1", "ja", "oui", "si", "wahr", "vrai")
FALSE = ("false", "f", "no", "n", "0", "nein", "non", "falsch", "faux")
"""Texts of truth values, in any case."""
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
"""Regular expression of a number written as text."""
WHOLE = r"[+-]?[0-9]+(\.0*)?"
_GROUP = "[. '\u00a0\u2009\u202f\u2019]"
COMMA_NUMBER = rf"[+-]?([0-9]{{1,3}}({_GROUP}[0-9]{{3}})+|[0-9]+)?(,[0-9]*)?([eE][+-]?[0-9]+)?"
"""Regular expression of a number with a decimal comma; dots, blanks or apostrophes may part thousands."""
COMMA_GROUPS = _GROUP
_DATE = r"(\d{4})-(\d{1,2})-(\d{1,2})"
_CLOCK = r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d+))?)?"
_NAME = r"[A-Za-z][A-Za-z0-9_+/-]*"
_TIME = re.compile(
    rf"{_DATE}(?:[Tt ]{_CLOCK}(?: ?[Zz]|(?: ?([+-])(0\d|1[0-8]):?([0-5]\d)?:?([0-5]\d)?)?"
    rf"(?:(?: ?[Zz])?\[({_NAME})\]| ({_NAME}))?)?)?"
)
_LONGEST = 1000
"""Characters of a number that are looked at; Python reads no longer ones."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Writing:
    """Form of the values of a column as text, where more than one is usual."""

    separator: str | None = None
    """Between the values of a list; a list may always be written as JSON."""
    decimal: Decimal = "."
    timezone: str = "UTC"
    """Of times without a zone."""

    @classmethod
    def of_tags(cls, tags: Mapping[str, str], where: str) -> "Writing":
        """Read the tags ``separator``, ``decimal`` and ``timezone`` of a field.

        Raises:
            ConfigError: a value is not possible; the message begins with ``where``.
        """
        decimal, zone = tags.get("decimal", "."), tags.get("timezone", "UTC")
        if decimal not in (".", ","):
            raise ConfigError(f"{where} has the tag decimal={decimal!r}; it is '.' or ','")
        if zone not in zones():
            raise ConfigError(f"{where} has the tag timezone={zone!r}; name a zone such as Europe/Berlin")
        return cls(separator=tags.get("separator") or None, decimal="," if decimal == "," else ".", timezone=zone)

    def tags(self) -> dict[str, str]:
        """Return the tags that say it; empty for the usual way."""
        said = {"separator": self.separator, "decimal": self.decimal, "timezone": self.timezone}
        return {name: value for name, value in said.items() if value and value != getattr(PLAIN, name)}


PLAIN = Writing()


@cache
def zones() -> frozenset[str]:
    """Return the names of zones that mean one: EST, IST or BST are taken for different ones in different places."""
    return frozenset({"UTC", "GMT", *(n for n in available_timezones() if "/" in n or n != n.upper())})


def read_truth(text: str) -> int | None:
    """Return 1 or 0, or None if a text is no truth value."""
    lower = text.lower()
    return 1 if lower in TRUE else 0 if lower in FALSE else None


def read_whole(text: str, writing: Writing = PLAIN) -> int | None:
    """Return a whole number; true is 1 and false is 0. None if a text is none."""
    if (truth := {"true": 1, "false": 0}.get(text.lower())) is not None:
        return truth
    plain = _plain(text[:_LONGEST], writing)
    return int(plain.partition(".")[0]) if plain is not None and re.fullmatch(WHOLE, plain) else None


def read_number(text: str, writing: Writing = PLAIN) -> float | None:
    """Return a number, or None if a text is none."""
    plain = _plain(text, writing)
    return float(plain) if plain is not None and re.fullmatch(NUMBER, plain) else None


def _plain(text: str, writing: Writing) -> str | None:
    if writing.decimal == ".":
        return text
    return re.sub(_GROUP, "", text).replace(",", ".") if re.fullmatch(COMMA_NUMBER, text) else None


def read_time(text: str, writing: Writing = PLAIN) -> int | None:
    """Return microseconds since 1970 of an ISO 8601 time, or None if a text is none.

    A date alone is its midnight. A local time that clocks skipped is no time; of one that came twice the first is meant.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, *offset, bracketed, named = found.groups()
    leap = second == "60" and minute == "59"
    try:
        wall = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), 59 if leap else int(second or 0)
        )
        micro = int(float(f"0.{fraction or 0}") * 1e6 + 0.5)
        wall += timedelta(seconds=leap, microseconds=micro)
        moment = _moment(wall, text, sign, offset, bracketed or named, writing)
    except (ValueError, OverflowError):
        return None
    return None if moment is None else (moment - _EPOCH) // _MICROSECOND


def _moment(
    wall: datetime, text: str, sign: str | None, offset: list[str | None], name: str | None, writing: Writing
) -> datetime | None:
    if sign is not None:
        hours, minutes, seconds = (int(part or 0) for part in offset)
        away = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        return wall.replace(tzinfo=UTC) - (away if sign == "+" else -away)
    if name is None and re.search(r"\d ?[Zz]$", text):
        return wall.replace(tzinfo=UTC)
    zone = name or writing.timezone
    if zone not in zones():
        return None
    moment = wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    there = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    return moment if there == wall else None


def read_list(text: str, writing: Writing = PLAIN) -> list[Any] | None:
    """Return the elements of a list: one in JSON, or texts with the column's separator between; None if a text is none."""
    if text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if isinstance(found, list):
            return found
    if writing.separator is None:
        return None
    return [element for part in text.split(writing.separator) if (element := trimmed(part))]


READ: dict[str, tuple[Callable[[str, Writing], Any], str]] = {
    "Bool": (lambda text, _: read_truth(text), "true or false"),
    "Int32": (read_whole, "a whole number"),
    "Int64": (read_whole, "a whole number"),
    "Float32": (read_number, "a number"),
    "Float64": (read_number, "a number"),
    "UnixTimestamp": (read_time, "a time such as 2024-05-31T18:00:00+02:00 or 2024-05-31"),
}
"""By element of a dtype: how a text becomes such a value, and what is expected, in words."""
