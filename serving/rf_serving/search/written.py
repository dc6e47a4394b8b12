"""Predicates of conditions as they are written: on a command line and in policies."""

from rf_platform.conditions import WrittenCondition, parse_alternatives
from rf_platform.errors import UsageError
from rf_protos.v1.features_pb2 import FeatureValue, StringList
from rf_protos.v1.filter_pb2 import Predicate

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
_COMPARISONS = (Predicate.LESS, Predicate.AT_MOST, Predicate.GREATER, Predicate.AT_LEAST)


def predicate_of(text: str, named: str) -> Predicate:
    """Return the predicate of a written condition, see :func:`rf_platform.conditions.parse_alternatives`.

    A value may be a text, a number, true or false, or a time such as 2026-10-01; the feature's type decides how it is read.

    Args:
        text: the condition.
        named: what it is called in messages.

    Raises:
        UsageError: it cannot be read.
    """
    found = parse_alternatives(text, named, "item_attributes__release_year>=1990")
    alternatives = [_predicate(each, f"{named} {text!r}") for each in found]
    return alternatives[0] if len(alternatives) == 1 else Predicate(any=alternatives)


def _predicate(found: WrittenCondition, said: str) -> Predicate:
    operator = _OPERATORS[found.sign]
    predicate = Predicate(feature=found.name, operator=operator, negate=found.negated)
    if not found.values:
        return predicate
    single = len(found.values) == 1
    if not single and operator in _COMPARISONS:
        raise UsageError(f"{said} compares with {len(found.values)} values; give one (a decimal point is a dot: 12.5)")
    value = (
        FeatureValue(string_value=found.values[0])
        if single
        else FeatureValue(string_list=StringList(values=found.values))
    )
    predicate.value.CopyFrom(value)
    return predicate
