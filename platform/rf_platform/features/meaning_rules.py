"""Reading of declared meanings: from the text of a tag to rules that are checked against each other."""

import math
from difflib import get_close_matches
from typing import Any

import yaml

from rf_platform.errors import ConfigError
from rf_platform.features.meanings import (
    EVENT_TYPE,
    MADE,
    MEANINGS,
    MOST_KINDS,
    MeaningRule,
    distinct_events,
)

TAG = "meanings"
_KEYS = ("type", "field", "at_least", "above", "at_most", "below", "is")
_BOUNDS = _KEYS[2:6]
_MOST_RULES = 64
_FORM = "write a list such as [{type: dislike, is: unwanted}, {field: rating, below: 3, is: unwanted}]"


def parse_meanings(text: str, where: str) -> tuple[MeaningRule, ...]:
    """Read the rules of a tag, a list in YAML (or JSON).

    Args:
        text: value of the tag.
        where: what has the tag, for messages.

    Raises:
        ConfigError: it is no such list, a rule has an unknown key or value or no condition, or a rule can never apply.
    """
    said = f"{where} has the tag {TAG}"
    try:
        written = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{said} that is not valid YAML ({' '.join(str(error).split())}); {_FORM}") from error
    if not isinstance(written, list) or not all(isinstance(each, dict) for each in written):
        raise ConfigError(f"{said}={text.strip()[:100]!r}; {_FORM}")
    if len(written) > _MOST_RULES:
        raise ConfigError(
            f"{said} with {len(written)} rules; at most {_MOST_RULES} are possible: a rule takes a list of types"
        )
    rules = tuple(_rule(each, f"{said}, rule {number}") for number, each in enumerate(written, 1))
    _check_reach(rules, said)
    return rules


def _rule(written: dict[Any, Any], where: str) -> MeaningRule:
    for key in written:
        if key not in _KEYS:
            near = get_close_matches(str(key), _KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(_KEYS)}"
            raise ConfigError(f"{where}: unknown key {key!r}; {hint}")
    meaning = written.get("is")
    if meaning not in MEANINGS:
        given = "is missing" if "is" not in written else f"is {meaning!r}"
        raise ConfigError(f"{where}: 'is' {given}; a meaning is one of {', '.join(MEANINGS)}")
    field = _field(written, where)
    bounds = {name: _bound(written[name], name, where) for name in _BOUNDS if name in written}
    if field is None and bounds:
        raise ConfigError(f"{where}: {', '.join(bounds)} without the 'field' whose range it is")
    if field is not None and not bounds:
        raise ConfigError(f"{where}: field {field!r} without a range; give {', '.join(_BOUNDS[:-1])} or {_BOUNDS[-1]}")
    if field is None and "type" not in written:
        raise ConfigError(f"{where}: no condition; give a 'type', or a 'field' with its range")
    for one, other in (("at_least", "above"), ("at_most", "below")):
        if one in bounds and other in bounds:
            raise ConfigError(f"{where}: both {one} and {other}; give one of them")
    rule = MeaningRule(meaning=meaning, types=_types(written, where), field=field, **bounds)
    if not any(rule.matches(event) for event in distinct_events([rule])):
        raise ConfigError(f"{where}: no number has {', '.join(f'{k}: {v:g}' for k, v in bounds.items())}")
    return rule


def _types(written: dict[Any, Any], where: str) -> tuple[str, ...] | None:
    if "type" not in written:
        return None
    given = written["type"]
    types = given if isinstance(given, list) else [given]
    for each in types:
        if not isinstance(each, str):
            raise ConfigError(
                f"{where}: the type {each!r} is no text; put it in quotes, as YAML reads it as something else"
            )
        if not each or each != each.strip() or "\x00" in each:
            raise ConfigError(f"{where}: the type {each!r} is blank, or has blanks around it, which no event type has")
    if not types:
        raise ConfigError(f"{where}: 'type' is an empty list")
    return tuple(dict.fromkeys(types))


def _field(written: dict[Any, Any], where: str) -> str | None:
    field = written.get("field")
    if "field" not in written:
        return None
    if not isinstance(field, str) or not field:
        raise ConfigError(f"{where}: 'field' must be the name of a column of the interaction log, not {field!r}")
    if field == EVENT_TYPE:
        raise ConfigError(f"{where}: {EVENT_TYPE} has no range; write 'type' to name event types")
    if field in MADE:
        raise ConfigError(
            f"{where}: {field!r} says where and when, not what an event means; name a number such as a rating"
        )
    return field


def _bound(value: Any, name: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{where}: {name} must be a number, not {value!r}")
    return float(value)


def _check_reach(rules: tuple[MeaningRule, ...], said: str) -> None:
    """Check that every rule decides of some event: one that cannot was meant otherwise."""
    kinds = 1
    for field in {rule.field for rule in rules if rule.field is not None}:
        kinds *= 2 + 2 * len({bound for rule in rules if rule.field == field for _, bound in rule.bounds})
    kinds *= 1 + len({name for rule in rules for name in rule.types or ()})
    if kinds > MOST_KINDS:
        raise ConfigError(
            f"{said} with too many conditions to be told apart: use fewer bounds, or bounds of fewer fields"
        )
    reached: set[tuple[int, str | None]] = set()
    for event in distinct_events(rules):
        number = next((i for i, rule in enumerate(rules) if rule.matches(event)), None)
        if number is not None:
            reached.add((number, event[EVENT_TYPE] if rules[number].types is not None else None))
    for number, rule in enumerate(rules):
        for name in rule.types or (None,):
            if (number, name) not in reached:
                never = "" if name is None or len(rule.types or ()) == 1 else f" to type {name!r}"
                raise ConfigError(
                    f"{said}, rule {number + 1}: {rule} never applies{never}, since the rules before it decide all of these "
                    f"events, and the first rule that an event matches counts; put it before them, or leave it out"
                )
