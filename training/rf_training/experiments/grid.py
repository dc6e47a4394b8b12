"""Grids of experiments: groups of variants around one recipe, ours and those of a user's YAML file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yaml.nodes import MappingNode

from rf_platform.errors import ConfigError, NotFoundError, RfError, UsageError
from rf_training.recipes import override
from rf_training.recipes.overrides import RecipeT

SEED = "train.seed"
"""The setting that a grid may not have: every variant is trained with every seed of the ablation."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Variants that differ from each other in one thing."""

    name: str
    """Name that `--group` takes."""
    title: str
    """Heading of its table and of its panel in the plot."""
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Settings that all of its variants and its base have, beside those of the recipe."""
    variants: Mapping[str, Mapping[str, str]]
    """By name: the settings that make the variant, each as `--set` takes it."""

    def __post_init__(self) -> None:
        """Check what can be checked without a recipe."""
        if not self.variants:
            raise ConfigError(f"group '{self.name}' has no variants")
        for variant, settings in self.variants.items():
            if SEED in settings or SEED in self.fixed:
                raise ConfigError(
                    f"group '{self.name}', variant '{variant}': {SEED} is not a setting to vary; `--seeds 0,1` trains every "
                    f"variant with each of these seeds"
                )

    def recipes(self, recipe: RecipeT) -> dict[str, RecipeT]:
        """Return the recipe of every variant.

        Raises:
            ConfigError: a variant has a setting that does not exist, a value that cannot be, or a contradiction.
        """
        return {name: self._apply(recipe, settings, f"variant '{name}'") for name, settings in self.variants.items()}

    def arms(self, recipe: RecipeT) -> dict[str, RecipeT]:
        """Return the recipe of every variant, the group's base among them.

        The base is the variant that leaves the recipe (with ``fixed``) as it is; where there is none, it comes in addition.

        Raises:
            ConfigError: a variant has a setting that does not exist, a value that cannot be, or a contradiction.
        """
        base = self._apply(recipe, {}, "what all its variants have")
        arms = self.recipes(recipe)
        if base in arms.values():
            return arms
        value = self._varied_value(base)
        name = self._free("base") if value is None or value in arms else value
        return _in_order({name: base}, arms)

    def base(self, recipe: RecipeT) -> str:
        """Return the name of the arm that the others are compared with."""
        base = override(recipe, _as_set(self.fixed))
        return next(name for name, arm in self.arms(recipe).items() if arm == base)

    def _apply(self, recipe: RecipeT, settings: Mapping[str, str], what: str) -> RecipeT:
        try:
            return override(recipe, _as_set({**self.fixed, **settings}))
        except RfError as error:
            reason = str(error).removeprefix("--set ")
            raise ConfigError(f"group '{self.name}', {what}: {reason}") from error

    def _varied_value(self, base: RecipeT) -> str | None:
        """Return the base's value of the one setting that the group varies; None if it varies several."""
        varied = {path for settings in self.variants.values() for path in settings}
        if len(varied) != 1:
            return None
        section, _, name = varied.pop().partition(".")
        value = getattr(getattr(base, section), name)
        return None if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    def _free(self, name: str) -> str:
        return name if name not in self.variants else self._free(f"{name} recipe")

    def chosen(self, names: Iterable[str]) -> "Group":
        """Return the group with some of its variants only.

        Raises:
            NotFoundError: it has no variant of such a name.
        """
        picked = [known(name, self.variants, f"variant in group '{self.name}'") for name in names]
        return replace(self, variants={name: self.variants[name] for name in self.variants if name in picked})

    def to_dict(self) -> dict[str, Any]:
        """Return the group as a grid file has it."""
        return {
            "title": self.title,
            "fixed": dict(self.fixed),
            "variants": {k: dict(v) for k, v in self.variants.items()},
        }


def select(groups: Mapping[str, Group], selection: Iterable[str]) -> dict[str, Group]:
    """Return the groups that `--group` names, in the order of the grid; all of them without a selection.

    Args:
        groups: the grid.
        selection: names, each optionally with the variants wanted, as in ``dim:64,256``.

    Raises:
        NotFoundError: there is no group or no variant of that name.
    """
    chosen: dict[str, Group] = {}
    for item in selection:
        name, colon, variants = item.partition(":")
        group = groups[known(name, groups, "group in this grid")]
        chosen[name] = group.chosen(v.strip() for v in variants.split(",")) if colon else group
    return {name: chosen[name] for name in groups if name in chosen} if chosen else dict(groups)


def known(name: str, names: Iterable[str], what: str) -> str:
    """Return ``name`` if it is one of ``names``.

    Raises:
        NotFoundError: it is none of them; the message suggests what was meant.
    """
    names = list(names)
    if name in names:
        return name
    close = get_close_matches(name, names, n=1)
    raise NotFoundError(
        f"no {what} is named {name!r}; " + (f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}")
    )


def no_seed(settings: Iterable[str]) -> None:
    """Refuse a base recipe with a seed set by hand."""
    if any(setting.partition("=")[0] == SEED for setting in settings):
        raise UsageError(f"--set {SEED}: an ablation takes its seeds from --seeds, e.g. --seeds 0,1")


def _as_set(settings: Mapping[str, str]) -> list[str]:
    return [f"{path}={value}" for path, value in settings.items()]


def _in_order(base: dict[str, RecipeT], arms: dict[str, RecipeT]) -> dict[str, RecipeT]:
    """Put the base first, or among the variants where all names are numbers."""
    both = {**base, **arms}
    try:
        return dict(sorted(both.items(), key=lambda arm: float(arm[0])))
    except ValueError:
        return both


EXAMPLE = "groups: {NAME: {variants: {NAME: {model.max_history: 10}}}}"


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str = ""
    fixed: dict[str, str] = Field(default_factory=dict)
    variants: dict[str, dict[str, str]]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    groups: dict[str, _Group] = Field(min_length=1)


class _Texts(yaml.BaseLoader):
    """Leaves every value the text it is, as `--set` takes it (`off` is a name, not false), and refuses a key given twice."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if repeated := next((key for key in keys if keys.count(key) > 1), None):
            raise ConfigError(
                f"{repeated!r} is there twice, the second time in line {node.end_mark.line + 1} or before"
            )
        return super().construct_mapping(node, deep)


def read_grid(path: Path) -> dict[str, Group]:
    """Read a grid from a file.

    Raises:
        NotFoundError: there is no such file.
        UsageError: the file is no YAML, or has another form.
        ConfigError: a group is not usable.
    """
    if not path.is_file():
        raise NotFoundError(f"grid {path} is not there; name a YAML file, or a grid that `rf ablate --help` lists")
    try:
        content = yaml.load(path.read_text(), _Texts)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"grid {path} is no YAML: {' '.join(str(error).split())}") from error
    except RfError as error:
        raise ConfigError(f"grid {path}: {error}") from error
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        wrong = error.errors()[0]
        place = " > ".join(map(str, wrong["loc"])) or "the file"
        raise UsageError(f"grid {path}: {place}: {_reason(wrong)}; the form is {EXAMPLE}") from error
    try:
        return {
            name: Group(
                name=name,
                title=group.title or name.replace("_", " ").capitalize(),
                fixed=group.fixed,
                variants=group.variants,
            )
            for name, group in file.groups.items()
        }
    except RfError as error:
        raise ConfigError(f"grid {path}: {error}") from error


def _reason(wrong: Any) -> str:
    reasons = {
        "extra_forbidden": "not known here",
        "missing": "missing",
        "string_type": "one value is expected here, not a list or a mapping",
        "dict_type": "a mapping is expected here",
        "model_type": "a mapping is expected here",
        "too_short": "empty",
    }
    return reasons.get(wrong["type"], str(wrong["msg"]))
