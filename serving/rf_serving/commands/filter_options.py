"""Filters as they are written on a command line."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from rf_platform.errors import UsageError
from rf_platform.failures import reading
from rf_protos.v1.features_pb2 import DoubleList, FeatureValue, Int64List, StringList
from rf_protos.v1.filter_pb2 import Filter, Predicate

_OPERATORS = {
    "=": Predicate.ANY_OF,
    "!=": Predicate.NONE_OF,
    "<": Predicate.LESS,
    "<=": Predicate.AT_MOST,
    ">": Predicate.GREATER,
    ">=": Predicate.AT_LEAST,
    "all": Predicate.ALL_OF,
    "present": Predicate.PRESENT,
    "absent": Predicate.ABSENT,
}
_CONDITION = re.compile(r"\s*(\w+)\s*(!=|<=|>=|=|<|>|\ball\b|\bpresent\b|\babsent\b)\s*(.*?)\s*")
_VALUE = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^",]+?)\s*(?:,|$)')
_WHOLE, _NUMBER = re.compile(r"[+-]?\d{1,18}"), re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_WITHOUT_VALUE = (Predicate.PRESENT, Predicate.ABSENT)


def filter_of(
    text: str | None, allow: str | None = None, deny: str | None = None, where: Sequence[str] = ()
) -> Filter | None:
    """Return the filter that options describe, all of which hold together; None if there are none.

    Args:
        text: of ``--filter``: JSON, or ``@FILE``.
        allow: of ``--allow``: item ids with commas.
        deny: of ``--deny``.
        where: conditions, see :func:`condition`.

    Raises:
        UsageError: one of them cannot be read.
    """
    if text is None and allow is None and deny is None and not where:
        return None
    found = Filter() if text is None else filter_from_json(text)
    for option, ids, into in (("--allow", allow, found.allow_items), ("--deny", deny, found.deny_items)):
        if ids is None:
            continue
        named = [each.strip() for each in ids.split(",") if each.strip()]
        if not named:
            raise UsageError(f"{option} has no item id; give some with commas")
        into.extend(named)
    found.where.extend(condition(each) for each in where)
    return found


def filter_from_json(text: str) -> Filter:
    """Return the filter of ``--filter``: the JSON of a ``retrievalformer.v1.Filter``, or ``@FILE`` that has it.

    Raises:
        UsageError: there is no such file, or it is no such JSON.
    """
    from google.protobuf.json_format import Parse, ParseError

    if text.startswith("@"):
        path = Path(text[1:])
        if not path.is_file():
            raise UsageError(f"--filter @{path}: there is no such file")
        with reading(path, "correct it", UsageError):
            text = path.read_text(encoding="utf-8")
    try:
        return Parse(text, Filter())
    except ParseError as error:
        raise UsageError(
            f"--filter is no JSON of a retrievalformer.v1.Filter: {error}; docs/filters.md has examples"
        ) from error


def condition(text: str) -> Predicate:
    """Return the condition of one ``--where``: ``FEATURE=VALUE,VALUE``, ``FEATURE>=NUMBER``, ``FEATURE all VALUE,VALUE``,
    ``FEATURE present``.

    What looks like a number is one, unless it stands in double quotes.

    Raises:
        UsageError: it cannot be read.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise UsageError(
            f"--where {text!r} is no condition; write FEATURE=VALUE,VALUE, or !=, <, <=, >, >=, all, present or absent, such as "
            f"'item_attributes__release_year>=1990'"
        )
    feature, operator, rest = found[1], _OPERATORS[found[2]], found[3]
    if operator in _WITHOUT_VALUE:
        if rest:
            raise UsageError(f"--where {text!r}: {found[2]} takes no value")
        return Predicate(feature=feature, operator=operator)
    return Predicate(feature=feature, operator=operator, value=_value(rest, text))


def _value(rest: str, text: str) -> FeatureValue:
    written: list[str] = []
    place = 0
    while place < len(rest):
        found = _VALUE.match(rest, place)
        if found is None:
            raise UsageError(f"--where {text!r}: {rest[place:]!r} is no value; put texts with commas in double quotes")
        written.append(found[1])
        place = found.end()
    if not written:
        raise UsageError(f"--where {text!r} has no value")
    single = len(written) == 1
    if all(_WHOLE.fullmatch(each) for each in written):
        whole = [int(each) for each in written]
        return FeatureValue(int_value=whole[0]) if single else FeatureValue(int_list=Int64List(values=whole))
    if all(_NUMBER.fullmatch(each) for each in written):
        real = [float(each) for each in written]
        return FeatureValue(double_value=real[0]) if single else FeatureValue(double_list=DoubleList(values=real))
    texts = [_unquoted(each, text) for each in written]
    return FeatureValue(string_value=texts[0]) if single else FeatureValue(string_list=StringList(values=texts))


def _unquoted(written: str, text: str) -> str:
    if not written.startswith('"'):
        return written
    try:
        return str(json.loads(written))
    except ValueError as error:
        raise UsageError(f"--where {text!r}: {written} is no text: {error}") from error
