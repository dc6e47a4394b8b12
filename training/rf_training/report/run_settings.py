"""The settings of a run beside those of its recipe."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rf_platform.dataset import Dataset
from rf_platform.errors import NotFoundError
from rf_training.recipes import TYPICAL, DatasetStatistics, get_recipe


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting."""

    name: str
    """As `rf train --set` takes it, for example ``model.dim``."""
    value: Any
    recipe: Any
    """The recipe's value, or None where the recipe is not known or does not have it."""
    changed: bool
    """Whether the run differs from the recipe."""


def recipe_values(name: str, dataset: Dataset | None) -> dict[str, dict[str, Any]] | None:
    """Return the sections of a recipe as plain values, or None where no recipe has that name any more.

    Args:
        name: the recipe.
        dataset: what its sizes are chosen by; None for a typical one.
    """
    try:
        recipe = get_recipe(name, TYPICAL if dataset is None else DatasetStatistics.of(dataset))
    except NotFoundError:
        return None
    return {"model": asdict(recipe.model), "train": asdict(recipe.train), "sharding": asdict(recipe.sharding)}


def compare_settings(config: Mapping[str, Any], recipe: Mapping[str, Mapping[str, Any]] | None) -> list[Setting]:
    """List all settings of a run's configuration, section by section.

    A setting that the recipe does not have, because it was taken out or added since, counts as changed.
    """
    return [
        Setting(
            name=f"{section}.{name}",
            value=value,
            recipe=None if recipe is None else recipe[section].get(name),
            changed=recipe is not None and (name not in recipe[section] or recipe[section][name] != value),
        )
        for section in ("model", "train", "sharding")
        # Runs of earlier versions have no section of that name.
        for name, value in config.get(section, {}).items()
    ]
