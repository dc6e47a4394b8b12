"""Change single settings of a recipe from the command line: ``model.dim=128``."""

from collections.abc import Iterable
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from rf_platform.errors import UsageError
from rf_training.config import Recipe


def override(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Return the recipe with ``section.name=value`` settings applied.

    Raises:
        UsageError: a setting does not exist or its value has the wrong type.
        ConfigError: the values contradict each other.
    """
    changes: dict[str, dict[str, Any]] = {"model": {}, "train": {}}
    for setting in settings:
        path, equals, text = setting.partition("=")
        section, _, name = path.partition(".")
        if not equals or section not in changes:
            raise UsageError(f"--set {setting!r}: write model.NAME=VALUE or train.NAME=VALUE")
        config = getattr(recipe, section)
        known = [f.name for f in fields(config)]
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {section}.{close[0]}?" if close else f"known are {', '.join(known)}"
            raise UsageError(f"--set {setting!r}: no setting {section}.{name}; {hint}")
        hint_type = get_type_hints(type(config))[name]
        try:
            changes[section][name] = TypeAdapter(hint_type).validate_strings(text)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise UsageError(f"--set {setting!r}: {section}.{name} takes {_type_name(hint_type)}: {reason}") from error
    return replace(
        recipe, model=replace(recipe.model, **changes["model"]), train=replace(recipe.train, **changes["train"])
    )


def _type_name(hint: Any) -> str:
    return str(getattr(hint, "__name__", hint)) if isinstance(hint, type) else str(hint).removeprefix("typing.")
