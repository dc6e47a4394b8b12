"""Feature values of a request, checked against the FeatureSpec."""

from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

from rf_platform.errors import UsageError
from rf_platform.features.field_rule import FieldRule, UnfitError
from rf_protos.v1.features_pb2 import FeatureValue

VALUE_CASES = {
    "String": "string_value",
    "Int32": "int_value",
    "Int64": "int_value",
    "Bool": "int_value",
    "Float32": "double_value",
    "Float64": "double_value",
    "UnixTimestamp": "int_value",
    "Array(String)": "string_list",
    "Array(Int32)": "int_list",
    "Array(Int64)": "int_list",
    "Array(Float32)": "double_list",
    "Array(Float64)": "double_list",
}
"""Which case of a value fits which dtype."""
WHOLE = {"double_value": "int_value", "double_list": "int_list"}
"""Cases that are taken as well where numbers are meant: JSON and many a client's language do not tell 5 from 5.0."""
_SHOWN_NAME = 100


class ValueReader:
    """Reads the values of one side's features.

    Args:
        rules: what every feature that may be given may have, by full name.
        others: returns the same of features that may be given as well, though nothing here reads them.
    """

    def __init__(self, rules: Mapping[str, FieldRule], others: Callable[[], Mapping[str, FieldRule]] = dict) -> None:
        self._rules, self._others = dict(rules), others

    def values(self, given: Mapping[str, FeatureValue], path: str) -> dict[str, Any]:
        """Return plain values by full name: a text, a number or a list, None where none is set.

        Args:
            given: values by full name.
            path: field path of the mapping, for messages.

        Raises:
            UsageError: a name is unknown or a value does not fit; the message begins with the field path.
        """
        return {name: _value(self._rule, name, value, path) for name, value in given.items()}

    def columns(self, given: Sequence[Mapping[str, FeatureValue]], path: str) -> dict[str, list[Any]]:
        """Return one column per feature that any row has, with None where a value is not given.

        Args:
            given: values by full name, one mapping per row.
            path: field path of a row's mapping, with ``{}`` for the row's number.

        Raises:
            UsageError: as :meth:`values`.
        """
        columns: dict[str, list[Any]] = {}
        rule_of = cache(self._rule)  # what may be given besides is worked out once, however many rows have it
        for row, values in enumerate(given):
            for name, value in values.items():
                if name not in columns:
                    columns[name] = [None] * len(given)
                columns[name][row] = _value(rule_of, name, value, path, row)
        return columns

    def _rule(self, name: str) -> FieldRule:
        rule = self._rules.get(name) or self._others().get(name)
        if rule is None:
            raise UnfitError(f"there is no such feature; {suggestion(name, self._rules)}")
        return rule


def _value(rule_of: Callable[[str], FieldRule], name: str, value: FeatureValue, path: str, row: int = 0) -> Any:
    try:
        return plain_value(value, rule_of(name))
    except UnfitError as error:
        named = name if len(name) <= _SHOWN_NAME else name[:_SHOWN_NAME] + "…"
        raise UsageError(f'{path.format(row)}["{named}"]: {error}') from None


def suggestion(name: str, known: Collection[str]) -> str:
    """Return what may have been meant by a name that is not known."""
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known) or 'none'}"


def plain_value(value: FeatureValue, rule: FieldRule) -> Any:
    """Return a text, a number or a list as the feature has it, or None if there is none.

    Args:
        value: what was given.
        rule: what the feature may have.

    Raises:
        UnfitError: the value is of another type, or does not fit.
    """
    case, fits = value.WhichOneof("value"), VALUE_CASES[rule.dtype]
    if case is None:
        return None
    if case not in (fits, WHOLE.get(fits)):
        raise UnfitError(f"{case} is given, but the feature is {rule.dtype}: set {fits}")
    found = getattr(value, case)
    return rule.of(list(found.values) if case.endswith("_list") else found)
