"""Plan of an ablation and its cells: one training each, done once for all processes that run experiments in a workspace."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from rf_platform.cli.console import Tracker, track
from rf_platform.dataset import Dataset
from rf_platform.errors import InterruptedRunError, NotFoundError, UsageError
from rf_platform.failures import read_json, reading
from rf_platform.files import replace_text
from rf_platform.locks import claimed
from rf_training.config import Recipe, ShardingConfig
from rf_training.experiments.grid import Group
from rf_training.run import recipe_from_dict

RecipeT = TypeVar("RecipeT")


@dataclass(frozen=True, kw_only=True)
class Cell(Generic[RecipeT]):
    """One training of an experiment."""

    name: str
    """Name of its run or of the file of its result: the same for the same settings on the same data, another one for others."""
    label: str
    """Its name in progress displays."""
    recipe: RecipeT


def digest(settings: Mapping[str, Any], length: int) -> str:
    """Return the identity of settings: the first hexadecimal digits of the SHA-256 of their JSON, in which keys are sorted."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:length]


def run_cells(
    title: str,
    cells: Sequence[Cell[RecipeT]],
    *,
    train: Callable[[Cell[RecipeT]], None],
    lock: Callable[[Cell[RecipeT]], Path],
    after_each: Callable[[], None],
    interrupted: Callable[[int], str],
) -> None:
    """Train cells in order; those that another process is training are left to it, and waited for at the end.

    Args:
        title: of the progress display.
        cells: that have no result yet.
        train: trains a cell and keeps the result; a cell that has one by now, made by another process, it leaves alone.
        lock: file that a process holds locked while it trains a cell.
        after_each: called after every cell, for an early table.
        interrupted: message for an interruption, given the number of cells that are left.

    Raises:
        InterruptedRunError: interrupted.
    """
    waiting, trained = list(cells), 0
    try:
        with track(title, len(cells)) as progress:
            while waiting:
                elsewhere = []
                for cell in waiting:
                    with claimed(lock(cell)) as mine:
                        if not mine:
                            elsewhere.append(cell)
                            continue
                        train(cell)
                    trained += 1
                    progress.advance(note=cell.label)
                    after_each()
                if len(elsewhere) == len(waiting):
                    _wait(lock(elsewhere[0]), elsewhere[0].label, progress)
                waiting = elsewhere
    except KeyboardInterrupt:
        raise InterruptedRunError(interrupted(len(cells) - trained)) from None


def _wait(lock: Path, label: str, progress: Tracker) -> None:
    progress.advance(0, note=f"waiting for another process that trains {label}")
    with claimed(lock, wait=True):
        pass


PREFIX = "ablate"
"""Prefix of the names of an ablation's runs."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides which runs an ablation has; kept in ``plan.json`` beside its tables."""

    name: str
    dataset: str
    """Name of the dataset version."""
    fingerprint: str
    """The dataset's."""
    recipe: Recipe
    """Recipe that the groups vary."""
    seeds: tuple[int, ...]
    groups: Mapping[str, Group]

    @classmethod
    def make(
        cls, *, name: str, dataset: Dataset, recipe: Recipe, seeds: Sequence[int], groups: Mapping[str, Group]
    ) -> "Plan":
        """Make a plan and check every variant.

        Raises:
            ConfigError: a variant is not usable; nothing was trained.
            UsageError: the seeds are not usable.
        """
        if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise UsageError(f"--seeds {','.join(map(str, seeds))}: give different whole numbers from 0 on, e.g. 0,1")
        plan = cls(
            name=name,
            dataset=dataset.name,
            fingerprint=dataset.fingerprint,
            recipe=recipe,
            seeds=tuple(seeds),
            groups=dict(groups),
        )
        _ = plan.cells
        return plan

    def arm_cells(self, group: Group) -> dict[str, list[Cell[Recipe]]]:
        """Return the cells of every arm of a group, one for each seed."""
        return {
            name: [self._cell(recipe, seed) for seed in self.seeds] for name, recipe in group.arms(self.recipe).items()
        }

    @cached_property
    def cells(self) -> dict[str, Cell[Recipe]]:
        """All cells by name: what several groups have in common, such as the base, is there once.

        The first seed of everything comes before the second of anything, so that an early table is broad.
        """
        by_seed: list[dict[str, Cell[Recipe]]] = [{} for _ in self.seeds]
        for group in self.groups.values():
            for cells in self.arm_cells(group).values():
                for known, cell in zip(by_seed, cells, strict=True):
                    known[cell.name] = cell
        return {name: cell for known in by_seed for name, cell in known.items()}

    def _cell(self, recipe: Recipe, seed: int) -> Cell[Recipe]:
        settings = {
            "dataset": self.dataset,
            "model": asdict(recipe.model),
            "train": {**asdict(recipe.train), "seed": 0},
            # Only where it says something: most grids leave it alone, and their runs keep their names.
            **({} if recipe.sharding == ShardingConfig() else {"sharding": asdict(recipe.sharding)}),
        }
        changed = changed_settings(recipe, self.recipe)
        words = "-".join(f"{path.partition('.')[2]}-{value}" for path, value in changed.items()) or "base"
        readable = re.sub(r"[^A-Za-z0-9._]+", "-", words)[:80].strip("-")
        name = f"{PREFIX}-{readable}-{digest(settings, 8)}-s{seed}"
        return Cell(name=name, label=name, recipe=replace(recipe, train=replace(recipe.train, seed=seed)))

    def extended(self, earlier: "Plan") -> "Plan":
        """Return this plan with the groups, variants and seeds of an earlier one of the same name.

        Raises:
            UsageError: the earlier one is around another recipe or on another dataset.
        """
        other = []
        if earlier.fingerprint != self.fingerprint:
            other.append(f"dataset '{earlier.dataset}', not '{self.dataset}'")
        other += [
            f"{path}={value}, not {changed_settings(self.recipe, earlier.recipe).get(path, value)}"
            for path, value in changed_settings(earlier.recipe, self.recipe).items()
        ]
        if other:
            raise UsageError(
                f"ablation '{self.name}' was made with {'; '.join(other)}: give the new one another name with --name"
            )
        groups = dict(earlier.groups)
        for name, group in self.groups.items():
            if name in groups:
                group = replace(group, variants={**groups[name].variants, **group.variants})
            groups[name] = group
        return replace(self, groups=groups, seeds=tuple(dict.fromkeys((*earlier.seeds, *self.seeds))))

    def save(self, directory: Path) -> None:
        """Write ``plan.json``."""
        plan = {
            "name": self.name,
            "dataset": self.dataset,
            "fingerprint": self.fingerprint,
            "recipe": asdict(self.recipe),
            "seeds": list(self.seeds),
            "groups": {name: group.to_dict() for name, group in self.groups.items()},
        }
        replace_text(directory / "plan.json", json.dumps(plan, indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path) -> "Plan":
        """Read ``plan.json``.

        Raises:
            NotFoundError: there is no such ablation.
            CorruptError: the file was changed, or is from another version of the platform.
        """
        path = directory / "plan.json"
        if not path.is_file():
            there = sorted(p.parent.name for p in directory.parent.glob("*/plan.json"))
            raise NotFoundError(f"there is no ablation '{directory.name}'; there are: {', '.join(there) or 'none'}")
        remedy = "delete it and give the grid again"
        with reading(path, remedy):
            plan: dict[str, Any] = read_json(path, remedy)
            groups = {name: Group(name=name, **group) for name, group in plan["groups"].items()}
            recipe = recipe_from_dict(plan["recipe"])
            return cls(**{**plan, "recipe": recipe, "seeds": tuple(plan["seeds"]), "groups": groups})


def changed_settings(recipe: Recipe, base: Recipe) -> dict[str, Any]:
    """Return the settings, the seed aside, in which a recipe differs from another one."""
    return {
        f"{section}.{name}": value
        for section in ("model", "train", "sharding")
        for name, value in asdict(getattr(recipe, section)).items()
        if name != "seed" and value != getattr(getattr(base, section), name)
    }
