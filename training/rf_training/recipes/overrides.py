"""Change single settings of a recipe from the command line: ``model.dim=128``, ``sharding.domains.item_id=table_wise``."""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from rf_platform.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RecipeT = TypeVar("RecipeT", bound="DataclassInstance")


def override(recipe: RecipeT, settings: Iterable[str]) -> RecipeT:
    """Return the recipe with ``section.name=value`` settings applied.

    A setting that is a table takes ``section.name.key=value`` for one entry of it, or the whole as JSON.

    Args:
        recipe: a frozen dataclass; its sections are its fields that are dataclasses themselves.
        settings: in order; a later one wins.

    Raises:
        UsageError: a setting does not exist or its value has the wrong type.
        ConfigError: the values contradict each other.
    """
    sections = [f.name for f in fields(recipe) if is_dataclass(getattr(recipe, f.name))]
    changes: dict[str, dict[str, Any]] = {section: {} for section in sections}
    for setting in settings:
        path, equals, text = setting.partition("=")
        section, _, name = path.partition(".")
        name, entry, key = name.partition(".")
        if not equals or section not in changes:
            *most, last = (f"{known}.NAME=VALUE" for known in sections)
            raise UsageError(f"--set {setting!r}: write {', '.join(most)} or {last}")
        config = getattr(recipe, section)
        known = [f.name for f in fields(config)]
        hint_type = get_type_hints(type(config)).get(name)
        table = get_origin(hint_type) is dict
        if hint_type is None or (entry and not table):
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {section}.{close[0]}?" if close else f"known are {', '.join(known)}"
            raise UsageError(f"--set {setting!r}: no setting {path}; {hint}")
        if entry:
            hint_type = get_args(hint_type)[1]
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(hint_type)
            value = adapter.validate_json(text) if table and not entry else adapter.validate_strings(text)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise UsageError(f"--set {setting!r}: {path} takes {_type_name(hint_type)}: {reason}") from error
        if entry:
            value = {**changes[section].get(name, getattr(config, name)), key: value}
        changes[section][name] = value
    for section, new in changes.items():
        if "objective" in new:
            # What a recipe says for its own objective does not hold for another.
            config = getattr(recipe, section)
            for name, objective in getattr(config, "OF_OBJECTIVE", {}).items():
                if objective != new["objective"]:
                    new.setdefault(name, type(config).__dataclass_fields__[name].default)
    return replace(recipe, **{section: replace(getattr(recipe, section), **new) for section, new in changes.items()})


def _type_name(hint: Any) -> str:
    return str(getattr(hint, "__name__", hint)) if isinstance(hint, type) else str(hint).removeprefix("typing.")
