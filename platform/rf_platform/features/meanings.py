"""Meanings of events: what an interaction says about its user, by event type and by ranges of the log's numbers.

One list of rules decides for imported interactions, recorded events and the histories of requests alike; the first rule that
an event matches gives its meaning, and an event that matches none is wanted.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import yaml

from rf_platform.errors import ConfigError
from rf_platform.sql import identifier, literal

if TYPE_CHECKING:  # the settings of trainings are read without it
    import duckdb

Meaning = Literal["wanted", "unwanted", "seen", "ignored"]
"""``wanted``: a target of training and evaluation, part of the history, seen. ``unwanted``: seen, and an explicit negative for
the user's later targets. ``seen``: seen, and nothing else. ``ignored``: in the event log, and nothing else."""
MEANINGS: tuple[Meaning, ...] = get_args(Meaning)
SEEN: tuple[Meaning, ...] = ("wanted", "unwanted", "seen")
"""Meanings of the events that put their item into the seen set."""
EVENT_TYPE = "event_type"
DEFAULT_TYPE = "interaction"
"""Type of an event that has none."""
MADE = ("user_id", "item_id", "event_timestamp", "hour", "weekday", "input_order")
"""Columns of the log that are no statement of an event about itself."""
MOST_KINDS = 100_000
"""Kinds of events that the conditions of rules may tell apart."""
_MOST = float(np.finfo(np.float32).max)
_BOUNDS = {"at_least": ">=", "above": ">", "at_most": "<=", "below": "<"}


@dataclass(frozen=True, kw_only=True)
class MeaningRule:
    """One rule; all its conditions must hold.

    Numbers are compared as 32-bit floats, which is how the tables keep a rating: 3.3 is not below 3.3 at any door. A missing
    number, NaN and infinity lie in no range.
    """

    meaning: Meaning
    types: tuple[str, ...] | None = None
    """Event types, exactly as they are recorded; None: all of them."""
    field: str | None = None
    """Column of the interaction log that the bounds are about."""
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def matches(self, event: Mapping[str, Any]) -> bool:
        """Return whether the rule applies to an event.

        Args:
            event: values by column of the log; a missing one is None or left out.
        """
        if self.types is not None and event.get(EVENT_TYPE) not in self.types:
            return False
        if self.field is None:
            return True
        number = _number(event.get(self.field))
        return number is not None and all(_holds(number, sign, bound) for sign, bound in self.bounds)

    @property
    def bounds(self) -> tuple[tuple[str, float], ...]:
        """Signs of comparison, each with its bound as a 32-bit float."""
        given = ((sign, getattr(self, name)) for name, sign in _BOUNDS.items())
        return tuple((sign, _single(bound)) for sign, bound in given if bound is not None)

    def __str__(self) -> str:
        """Return the rule as it is written in YAML."""
        types = None if self.types is None else self.types[0] if len(self.types) == 1 else list(self.types)
        bounds = {name: bound for name in _BOUNDS if (bound := getattr(self, name)) is not None}
        numbers = {name: int(bound) if float(bound).is_integer() else bound for name, bound in bounds.items()}
        rule = {"type": types, "field": self.field, **numbers, "is": self.meaning}
        given = {key: value for key, value in rule.items() if value is not None}
        return yaml.safe_dump(
            given, default_flow_style=True, sort_keys=False, width=math.inf, allow_unicode=True
        ).strip()

    def sql(self, alias: str = "") -> str:
        """Return the SQL of :meth:`matches` over the columns of a relation."""
        parts = []
        if self.types is not None:
            parts.append(f"CAST({alias}{EVENT_TYPE} AS VARCHAR) IN ({', '.join(map(literal, self.types))})")
        if self.field is not None:
            number = f"CAST({alias}{identifier(self.field)} AS DOUBLE)"
            single = f"CAST(greatest(least({number}, {_MOST:.17e}), {-_MOST:.17e}) AS FLOAT)"
            parts.append(f"isfinite({number})")
            parts += [f"{single} {sign} CAST({bound:.17e} AS FLOAT)" for sign, bound in self.bounds]
        return " AND ".join(parts)


Rules = Sequence[MeaningRule]


def meaning_of(rules: Rules, event: Mapping[str, Any]) -> Meaning:
    """Return the meaning of an event; see :meth:`MeaningRule.matches`."""
    return next((rule.meaning for rule in rules if rule.matches(event)), "wanted")


def meaning_sql(rules: Rules, alias: str = "") -> str:
    """Return the SQL of :func:`meaning_of` over the columns of an interaction log: a text that is never null.

    Args:
        rules: the rules.
        alias: of the relation, with its dot.
    """
    if not rules:
        return literal("wanted")
    cases = " ".join(f"WHEN {rule.sql(alias)} THEN {literal(rule.meaning)}" for rule in rules)
    return f"CASE {cases} ELSE {literal('wanted')} END"


def with_meaning(rules: Rules, relation: str, *meanings: Meaning) -> str:
    """Return what to put behind FROM to read the events of a log that have one of some meanings.

    Args:
        rules: the rules; without any, the relation itself where ``wanted`` is asked for.
        relation: the log, as it stands behind FROM.
        meanings: which events.
    """
    if not rules and "wanted" in meanings:
        return relation
    return f"(SELECT * FROM {relation} AS l WHERE {meaning_sql(rules, 'l.')} IN ({', '.join(map(literal, meanings))}))"


def columns_of(rules: Rules) -> tuple[str, ...]:
    """Return the columns that rules look at."""
    looked_at = [EVENT_TYPE for rule in rules if rule.types is not None]
    return tuple(dict.fromkeys([*looked_at, *(rule.field for rule in rules if rule.field is not None)]))


def check_meaning_columns(rules: Rules, columns: Mapping[str, str], log: str) -> None:
    """Check that an interaction log has the columns that rules look at.

    Args:
        rules: the rules.
        columns: the log's columns with their DuckDB types.
        log: what the log is called in messages.

    Raises:
        ConfigError: it has no such column, or one that holds no numbers.
    """
    for rule in rules:
        if rule.types is not None and EVENT_TYPE not in columns:
            raise ConfigError(
                f"the meaning {rule} names an event type, and the interaction log {log} has no event_type"
            )
        if rule.field is None:
            continue
        numbers = [name for name, kind in columns.items() if has_numbers(kind) and name not in MADE]
        if rule.field not in columns:
            raise ConfigError(
                f"the meaning {rule} names the field {rule.field!r}, which the interaction log {log} does not have "
                f"(numbers that it has: {', '.join(numbers) or 'none'})"
            )
        if rule.field not in numbers:
            raise ConfigError(
                f"the meaning {rule} gives a range of {rule.field!r}, which holds {columns[rule.field]} in the interaction log "
                f"{log}; ranges are of numbers (it has: {', '.join(numbers) or 'none'})"
            )


def newly_wanted(before: Rules, now: Rules) -> str | None:
    """Return an example of events that are wanted by ``now`` and were not by ``before``, or None if there are none."""
    if tuple(before) == tuple(now):
        return None
    for number, event in enumerate(distinct_events([*before, *now])):
        if number == MOST_KINDS:
            return "events of more kinds than can be told apart may have been others"
        if meaning_of(now, event) == "wanted" != (was := meaning_of(before, event)):
            known = {name: "of any other kind" if value is ... else value for name, value in event.items()}
            shown = [f"{name} {value}" for name, value in known.items() if value is not None]
            return f"events with {', '.join(shown) or 'no value'} were {was}"
    return None


def distinct_events(rules: Rules) -> Iterator[Mapping[str, Any]]:
    """Yield one event of every kind that the conditions of rules tell apart; ``...`` stands for any other event type."""
    types = dict.fromkeys(name for rule in rules for name in rule.types or ())
    choices: dict[str, list[Any]] = {EVENT_TYPE: [*types, ...]} if types else {}
    for field in dict.fromkeys(rule.field for rule in rules if rule.field is not None):
        choices[field] = [*_numbers_around({b for r in rules if r.field == field for _, b in r.bounds}), None]
    for values in product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def _numbers_around(bounds: Collection[float]) -> list[float]:
    """Return the bounds, and a number between each two neighbours and beyond the ends, in rising order."""
    exact = sorted(bounds)
    between = [_single(low + (high - low) / 2) for low, high in pairwise(exact)]
    before, after = exact[0] - max(1.0, abs(exact[0])), exact[-1] + max(1.0, abs(exact[-1]))
    return sorted({_single(before), *exact, *between, _single(after)})


def _number(value: Any) -> float | None:
    """Return a value as a 32-bit float, or None if it is no finite number."""
    if not isinstance(value, int | float | np.number | np.bool_):
        return None
    try:
        number = float(value)
    except OverflowError:  # beyond a double: no column has that
        return None
    return _single(number) if math.isfinite(number) else None


def _single(number: float) -> float:
    return float(np.float32(max(-_MOST, min(_MOST, number))))


def _holds(number: float, sign: str, bound: float) -> bool:
    match sign:
        case ">=":
            return number >= bound
        case ">":
            return number > bound
        case "<=":
            return number <= bound
        case _:
            return number < bound


def has_numbers(kind: str) -> bool:
    """Return whether a column of a DuckDB type holds numbers."""
    from rf_platform.data.convert import family

    return family(kind) in ("int", "float", "bool")


def event_types(db: "duckdb.DuckDBPyConnection", log: str) -> list[str]:
    """Return the types of a log's events; ``log`` as it stands behind FROM."""
    found = db.execute(f"SELECT DISTINCT CAST({EVENT_TYPE} AS VARCHAR) AS t FROM {log} WHERE t IS NOT NULL ORDER BY t")
    return [row[0] for row in found.fetchall()]


def unknown_types(rules: Rules, types: Collection[str]) -> list[str]:
    """Return a sentence for each event type that a rule names and the log does not have.

    Args:
        rules: the rules.
        types: all that the log has.
    """
    said = []
    for name in dict.fromkeys(name for rule in rules for name in rule.types or () if name not in types):
        near = get_close_matches(name, list(types), n=1)
        meant = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, list(types)[:20]))}"
        said.append(f"a meaning names the event type {name!r}, which no event has; {meant}")
    return said
