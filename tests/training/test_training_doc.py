"""docs/training.md tells every setting, every choice and every recipe, with the defaults of the code; so does the help."""

import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from typer.testing import CliRunner

from rf_platform.cli.app import app
from rf_training.config import Recipe, ShardingConfig, TrainConfig
from rf_training.model.blocks import TOWERS
from rf_training.model.config import ModelConfig
from rf_training.model.fusion import FUSIONS
from rf_training.recipes import RECIPES, override
from rf_training.tuning.space import DEFAULTS

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
LINES = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")]
SETTINGS = [line for line in LINES if len(line) == 3 and line[0].startswith(("`model.", "`train.", "`sharding."))]
CONFIGS = {"model": ModelConfig, "train": TrainConfig, "sharding": ShardingConfig}
TABLES: dict[str, Iterable[str]] = {"model.fusion": FUSIONS, "model.tower": TOWERS}
HINTS = {f"{s}.{name}": hint for s, config in CONFIGS.items() for name, hint in get_type_hints(config).items()}


def test_every_setting_is_told_once_and_no_other() -> None:
    told = [name.strip("`") for name, *_ in SETTINGS]
    assert told == [f"{section}.{f.name}" for section, config in CONFIGS.items() for f in fields(config)]


@pytest.mark.parametrize(("name", "default", "meaning"), SETTINGS, ids=[line[0] for line in SETTINGS])
def test_defaults_and_choices_are_those_of_the_code(name: str, default: str, meaning: str) -> None:
    name, base = name.strip("`"), Recipe(name="base")
    section, _, field = name.partition(".")
    if default == "none":
        assert getattr(getattr(base, section), field) is None
    else:
        assert override(base, [f"{name}={default}"]) == base
    choices = tuple(TABLES[name]) if name in TABLES else get_args(HINTS[name])
    if name in TABLES or get_origin(HINTS[name]) is Literal:
        assert set(choices) <= set(re.findall(r"`([^`]+)`", meaning))


def test_every_recipe_is_told() -> None:
    section = PAGE.partition("\n## Recipes\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert [re.findall(r"`([^`]+)`", row)[0] for row in rows] == list(RECIPES)
    told = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "400"})
    listed = re.search(r"start from: (.*?);", told.stdout)
    assert listed is not None
    assert listed[1].split(", ") == list(RECIPES)


def test_what_is_tuned_by_default_is_told() -> None:
    rows = re.findall(
        r"^\| (`[^|]+) \| [^|]+ \|$", PAGE.partition("| tuned by default |")[2].partition("\n\n")[0], re.M
    )
    assert re.findall(r"`([^`]+)`", "".join(rows)) == list(DEFAULTS)


def test_settings_named_in_the_text_exist() -> None:
    for section, field in re.findall(r"\b(model|train|sharding)\.(\w+)", PAGE):
        assert f"{section}.{field}" in HINTS or field in ("py", "json")
