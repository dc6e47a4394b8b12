"""Recipes in YAML files: settings by section, on top of a named recipe."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from rf_platform.errors import NotFoundError, RfError, UsageError
from rf_platform.files import replace_text
from rf_training.config import Recipe
from rf_training.recipes.overrides import override

SECTIONS = ("model", "train", "sharding")
FORM = "the form is {from: default, model: {dim: 64}, train: {epochs: 4}}"


def is_recipe_file(name: str) -> bool:
    """Return whether a name of a recipe is that of a file."""
    return name.endswith((".yaml", ".yml"))


def read_recipe(path: Path, named: Callable[[str], Recipe]) -> Recipe:
    """Read a recipe from a file; it is named after the file.

    Args:
        path: YAML with the sections ``model``, ``train`` and ``sharding``, each with settings as `--set` takes them, and
            ``from``: the recipe that has all others, default: default.
        named: returns a recipe by name.

    Raises:
        NotFoundError: there is no such file, or no recipe of the name after ``from``.
        UsageError: the file is no YAML or has another form, a setting does not exist or its value has the wrong type.
        ConfigError: the values contradict each other.
    """
    if not path.is_file():
        raise NotFoundError(f"recipe {path} is not there; name a YAML file, or a recipe that `rf train --help` lists")
    try:
        # All values are the texts that they are, as `--set` takes them: 2e-3 is no number of YAML.
        content = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(each, {}), dict) for each in SECTIONS):
        raise UsageError(f"recipe {path} has no sections of settings; {FORM}")
    if unknown := [key for key in content if key not in ("from", *SECTIONS)]:
        raise UsageError(f"recipe {path}: {unknown[0]!r} is not known here; {FORM}")
    base = str(content.get("from", "default"))
    if is_recipe_file(base):
        raise UsageError(f"recipe {path}: from: {base} must be a named recipe, not a file")
    changes = [
        f"{section}.{name}={json.dumps(value) if isinstance(value, dict | list) else value}"
        for section in SECTIONS
        for name, value in content.get(section, {}).items()
    ]
    try:
        return replace(override(named(base), changes), name=path.stem)
    except RfError as error:
        raise type(error)(f"recipe {path}: {str(error).removeprefix('--set ')}") from error


def write_recipe(path: Path, recipe: Recipe, base: str, title: str) -> None:
    """Write all settings of a recipe into a file.

    Args:
        path: the file.
        recipe: its settings.
        base: the named recipe that it was made from.
        title: comment at the top, of one or more lines.
    """
    content: dict[str, Any] = {"from": base}
    for section in SECTIONS:
        config = getattr(recipe, section)
        settings = {f.name: getattr(config, f.name) for f in fields(config)}
        content[section] = {name: value for name, value in settings.items() if value not in (None, {})}
    comment = "".join(f"# {line}\n" for line in title.splitlines())
    replace_text(path, comment + yaml.safe_dump(content, sort_keys=False))
