"""Filter of a request in Milvus's language, for the engine that holds the index.

It decides what is found, never what is returned: each item found is checked against the filter itself.
"""

from collections.abc import Collection, Mapping, Sequence

from rf_serving.index.points import MISSING, PushedField, code_of
from rf_serving.search.condition import Clause, Condition, Operator

_COMPARE = {Operator.LESS: "<", Operator.AT_MOST: "<=", Operator.GREATER: ">", Operator.AT_LEAST: ">="}


def expression_of(where: Collection[Clause], fields: Sequence[PushedField]) -> str | None:
    """Return clauses that all hold as an expression; None where one asks about something that the engine has not stored."""
    by_feature = {field.feature: field for field in fields}
    written = [_clause(clause, by_feature) for clause in where]
    known = [each for each in written if each is not None]
    return " and ".join(sorted(known)) if written and len(known) == len(written) else None


def _clause(clause: Clause, fields: Mapping[str, PushedField]) -> str | None:
    if isinstance(clause, Condition):
        field = fields.get(clause.feature)
        return None if field is None else f"({_condition(clause, field)})"
    written = [_clause(part, fields) for part in clause.parts]
    known = [each for each in written if each is not None]
    if not known or len(known) != len(written):
        return None
    joined = f"({(' or ' if clause.any else ' and ').join(sorted(known))})"
    return f"(not {joined})" if clause.negated else joined


def _condition(condition: Condition, field: PushedField) -> str:
    """Return a condition; an item without a value passes NONE_OF and ABSENT only."""
    if (sign := _COMPARE.get(condition.operator)) is not None:
        return f"{field.value} {sign} {condition.values[0]!r} and {field.codes} != {MISSING}"
    absent = f"array_contains({field.codes}, {MISSING})" if field.dtype.is_list else f"{field.codes} == {MISSING}"
    match condition.operator:
        case Operator.ABSENT:
            return absent
        case Operator.PRESENT:
            return f"not ({absent})"
    codes = [code_of(value) for value in condition.values]
    if condition.operator is Operator.ALL_OF and not field.dtype.is_list:
        return " and ".join(f"{field.codes} == {code}" for code in codes)
    how = "all" if condition.operator is Operator.ALL_OF else "any"
    among = f"array_contains_{how}({field.codes}, {codes})" if field.dtype.is_list else f"{field.codes} in {codes}"
    return f"not ({among})" if condition.operator is Operator.NONE_OF else among
