"""Conditions as they are written, ``NAME>=VALUE``: in filters on a command line, in mapping files and in policies."""

import json
import re
from dataclasses import dataclass, replace
from typing import Literal

from rf_platform.errors import UsageError

Sign = Literal["=", "!=", "<", "<=", ">", ">=", "all", "present", "absent"]
WITHOUT_VALUE: tuple[Sign, ...] = ("present", "absent")
_CONDITION = re.compile(r'\s*(\w+|"[^"]+")\s*(!=|<=|>=|=|<|>|\ball\b|\bpresent\b|\babsent\b)\s*(.*?)\s*', re.DOTALL)
_OR, _NOT = re.compile(r"\sor\s"), re.compile(r"\s*not\s+")
_VALUE = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^",]+?)\s*(?:,|$)')


@dataclass(frozen=True)
class WrittenCondition:
    """A condition as it is written; what its values are, depends on what they are compared with."""

    name: str
    sign: Sign
    values: tuple[str, ...]
    negated: bool = False
    """Whether it must not hold."""


def parse_condition(text: str, where: str, example: str) -> WrittenCondition:
    """Read ``NAME=VALUE,VALUE``, ``NAME>=VALUE``, ``NAME all VALUE,VALUE`` or ``NAME present``.

    Args:
        text: the condition; texts with commas stand in double quotes, and so do names with blanks.
        where: stands before the text in messages.
        example: of a condition, for messages.

    Raises:
        UsageError: it is none.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{where} {text!r} is no condition; write NAME=VALUE,VALUE, or !=, <, <=, >, >=, all, present or absent, such as "
            f"{example!r}"
        )
    name, sign, rest = found[1].strip('"'), found[2], found[3]
    if sign in WITHOUT_VALUE:
        if rest:
            raise UsageError(f"{where} {text!r}: {sign} takes no value")
        return WrittenCondition(name, sign, ())
    return WrittenCondition(name, sign, _values(rest, f"{where} {text!r}"))  # type: ignore[arg-type]


def parse_alternatives(text: str, where: str, example: str) -> tuple[WrittenCondition, ...]:
    """Read ``CONDITION or CONDITION``, each with ``not`` before it if it must not hold.

    An ``or`` that no condition follows is part of a value: ``title=Good or bad``.

    Raises:
        UsageError: there is none; see :func:`parse_condition`, which takes the same arguments.
    """
    found: list[WrittenCondition] = []
    for part in _alternatives(text):
        negated = _NOT.match(part)
        written = parse_condition(part[negated.end() :] if negated else part, where, example)
        found.append(replace(written, negated=negated is not None))
    return tuple(found)


def _alternatives(text: str) -> list[str]:
    """Return what stands between the ``or`` of a text, those in quotes or within a value aside."""
    for place in _OR.finditer(text):
        before, after = text[: place.start()], text[place.end() :]
        if before.count('"') % 2 == 0 and _CONDITION.fullmatch(_NOT.sub("", after)):
            return [before, *_alternatives(after)]
    return [text]


def _values(rest: str, said: str) -> tuple[str, ...]:
    values: list[str] = []
    place = 0
    while place < len(rest):
        found = _VALUE.match(rest, place)
        if found is None:
            raise UsageError(f"{said}: {rest[place:]!r} is no value; put texts with commas in double quotes")
        values.append(_unquoted(found[1], said))
        place = found.end()
    if not values:
        raise UsageError(f"{said} has no value")
    return tuple(values)


def _unquoted(written: str, said: str) -> str:
    if not written.startswith('"'):
        return written
    try:
        return str(json.loads(written))
    except ValueError as error:
        raise UsageError(f"{said}: {written} is no text: {error}") from error
