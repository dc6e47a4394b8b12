"""Feature values of requests, sessions, items, events and filters, checked against the rules of their fields."""

from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from itertools import islice
from typing import Any

from rf_platform.errors import UsageError
from rf_platform.features.dtype import Dtype
from rf_platform.features.field_rule import FieldRule, UnfitError
from rf_protos.v1.features_pb2 import DoubleList, FeatureValue, Int64List, StringList

WHOLE = {"double_value": "int_value", "double_list": "int_list"}
"""Cases that are taken as well where numbers are meant: JSON and many a client's language do not tell 5 from 5.0."""
_LISTS = {"string_list": StringList, "int_list": Int64List, "double_list": DoubleList}
_SHOWN_NAME, _SHOWN_NAMES = 100, 30


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
        return {name: checked_value(self._rule, name, value, path) for name, value in given.items()}

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
                columns[name][row] = checked_value(rule_of, name, value, path.format(row))
        return columns

    def _rule(self, name: str) -> FieldRule:
        rule = self._rules.get(name) or self._others().get(name)
        if rule is None:
            raise UnfitError(f"there is no such feature; {suggestion(name, self._rules)}")
        return rule


def checked_value(rule_of: Callable[[str], FieldRule], name: str, value: FeatureValue, path: str) -> Any:
    """Return a plain value of a mapping by name, as :func:`plain_value` does.

    Args:
        rule_of: returns the rule of a name, or raises UnfitError where there may be no such value.
        name: key of the value.
        value: what was given.
        path: field path of the mapping, for messages.

    Raises:
        UsageError: there is no such name, or the value does not fit; the message begins with the value's path.
    """
    try:
        return plain_value(value, rule_of(name))
    except UnfitError as error:
        raise UsageError(f"{value_path(path, name)}: {error}") from None


def value_path(path: str, name: str) -> str:
    """Return the field path of one value of a mapping; a long name is cut short."""
    return f'{path}["{name if len(name) <= _SHOWN_NAME else name[:_SHOWN_NAME] + "…"}"]'


def suggestion(name: str, known: Collection[str]) -> str:
    """Return what may have been meant by a name that is not known."""
    if own := [each for each in known if each.endswith(f"__{name}")]:  # a field without its view
        return f"did you mean {' or '.join(own[:3])}?"
    if close := get_close_matches(name[:200], known, n=1):
        return f"did you mean {close[0]}?"
    more = ", …" if len(known) > _SHOWN_NAMES else ""
    return f"known are {', '.join(islice(known, _SHOWN_NAMES)) or 'none'}{more}"


def plain_value(value: FeatureValue, rule: FieldRule) -> Any:
    """Return a text, a number or a list as the feature has it, or None if there is none.

    Args:
        value: what was given.
        rule: what the feature may have.

    Raises:
        UnfitError: the value is of another type, or does not fit.
    """
    case, fits = value.WhichOneof("value"), rule.dtype.case
    if case is None:
        return None
    if case not in (fits, WHOLE.get(fits), *_as_text(rule.dtype)):
        raise UnfitError(f"{case} is given, but the feature is {rule.dtype}: set {fits}")
    return rule.of(given_value(value))


def _as_text(dtype: Dtype) -> tuple[str, ...]:
    """Return the cases that hold values in another form, which :mod:`rf_platform.literals` reads: texts, and ids as numbers."""
    whole = ("int_list" if dtype.is_list else "int_value",) if dtype.element == "String" else ()
    return ("string_value", "string_list", *whole) if dtype.is_list else ("string_value", *whole)


def given_value(value: FeatureValue) -> Any:
    """Return what a message has, unchecked: a text, a number or a list, or None if nothing is set."""
    if (case := value.WhichOneof("value")) is None:
        return None
    found = getattr(value, case)
    return list(found.values) if case.endswith("_list") else found


def given_elements(value: FeatureValue, element: Dtype) -> list[Any]:
    """Return the values that a message has for comparing with a feature, unchecked but for their type: one, or those of a list.

    Args:
        value: what was given.
        element: the type of the feature's elements.

    Raises:
        UnfitError: the value is of another type, or an empty list.
    """
    case, fits = value.WhichOneof("value"), (element.case, Dtype(element.element, is_list=True).case)
    if case not in (*fits, *_as_text(Dtype(element.element, is_list=True)), *_as_text(element)):
        raise UnfitError(f"{case or 'nothing'} is given, but the feature holds {element}: set {' or '.join(fits)}")
    found = given_value(value)
    if found == []:
        raise UnfitError("the list is empty; give at least one value")
    return found if isinstance(found, list) else [found]


def message_value(case: str, value: Any) -> FeatureValue:
    """Return a value as messages carry it; ``case`` is that of its type."""
    return FeatureValue(**{case: _LISTS[case](values=value) if case in _LISTS else value})
