"""Grids: those of the platform fit the recipes, and a wrong one is refused before anything is trained."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from rf_platform.errors import ConfigError, NotFoundError, RfError, UsageError
from rf_platform.settings import Settings
from rf_training.config import Recipe
from rf_training.experiments import GRIDS, Group, read_grid, select
from rf_training.experiments.plan import digest
from rf_training.recipes import RECIPES, get_recipe

BASE = Recipe(name="base")


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("group", [pytest.param(g, id=name) for name, g in GRIDS["all"].items()])
def test_the_grids_fit_the_recipes(group: Group, recipe: str) -> None:
    arms = group.arms(get_recipe(recipe))
    assert len(arms) >= 2
    assert group.base(get_recipe(recipe)) in arms
    distinct = {repr(arm) for arm in arms.values()}
    assert len(distinct) == len(arms)  # no two variants are the same


def test_the_identity_of_settings_is_the_one_of_earlier_versions() -> None:
    text = '{"dataset": "d", "train": {"epochs": 1, "seed": 0}}'
    assert (
        digest({"train": {"seed": 0, "epochs": 1}, "dataset": "d"}, 8) == hashlib.sha256(text.encode()).hexdigest()[:8]
    )


def test_all_is_every_group_of_the_others() -> None:
    others = [name for grid, groups in GRIDS.items() if grid != "all" for name in groups]
    assert sorted(GRIDS["all"]) == sorted(others)
    assert len(others) == len(set(others))


def group(variants: dict[str, dict[str, str]], fixed: dict[str, str] | None = None) -> Group:
    return Group(name="g", title="G", fixed=fixed or {}, variants=variants)


def test_the_base_is_the_variant_that_changes_nothing() -> None:
    both = group({"narrow": {"model.dim": "16"}, "as it is": {"model.dim": str(BASE.model.dim)}})
    assert both.base(BASE) == "as it is"
    assert list(both.arms(BASE)) == ["narrow", "as it is"]


@pytest.mark.parametrize(
    ("variants", "names"),
    [
        ({"16": {"model.dim": "16"}, "128": {"model.dim": "128"}}, ["16", "64", "128"]),  # in order where there is one
        ({"narrow": {"model.dim": "16"}}, ["64", "narrow"]),
        ({"deep": {"model.dim": "16", "model.layers": "3"}}, ["base", "deep"]),
        ({"base": {"model.dim": "16", "model.layers": "3"}}, ["base recipe", "base"]),
    ],
)
def test_a_missing_base_is_added_and_named(variants: dict[str, dict[str, str]], names: list[str]) -> None:
    assert list(group(variants).arms(BASE)) == names


def test_fixed_settings_are_the_bases_too() -> None:
    arms = group({"few": {"train.uniform_negatives": "10"}}, {"train.epochs": "3"}).arms(BASE)
    assert {arm.train.epochs for arm in arms.values()} == {3}
    assert len(arms) == 2


def test_a_selection_keeps_the_order_of_the_grid() -> None:
    groups = {name: group({"a": {}, "b": {"model.dim": "16"}}) for name in ("x", "y", "z")}
    chosen = select(groups, ["z", "x:b"])
    assert {name: list(g.variants) for name, g in chosen.items()} == {"x": ["b"], "z": ["a", "b"]}
    assert select(groups, []) == groups
    with pytest.raises(NotFoundError, match=r"no group in this grid is named 'history'; known are x, y, z"):
        select(groups, ["history"])
    with pytest.raises(NotFoundError, match=r"no variant in group 'g' is named 'c'"):
        select(groups, ["x:a,c"])


GOOD = """
groups:
  history_length:
    variants:
      off: {model.max_history: 5}
      1: {model.max_history: 10, train.learning_rate: 5e-4}
  ids:
    title: Item ids
    fixed: {train.epochs: 2}
    variants: {without: {model.item_id: no}}
"""


def test_a_file_is_taken_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(GOOD)
    length, ids = read_grid(path).values()
    assert (length.name, length.title, ids.title) == ("history_length", "History length", "Item ids")
    arms = length.arms(BASE)
    assert list(arms) == ["base", "off", "1"]  # not False, not a number
    assert (arms["1"].model.max_history, arms["1"].train.learning_rate) == (10, 5e-4)
    assert ids.arms(BASE)["without"].model.item_id is False


VARIANT = "groups: {history: {variants: {short: {%s}}}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            VARIANT % "model.max_histroy: 5",
            r"group 'history', variant 'short': 'model.max_histroy=5': no setting .* did you mean",
        ),
        (VARIANT % "model.max_history: long", r"group 'history', variant 'short': .*takes int"),
        (VARIANT % "model.max_history: null", r"group 'history', variant 'short': .*takes int"),
        (
            VARIANT % "model.dim: 15",
            r"group 'history', variant 'short': model.dim=15 must be a multiple of model.heads",
        ),
        (VARIANT % "model.max_history: [5, 6]", r"groups > history > variants > short > model.max_history: one value"),
        (VARIANT % "train.seed: 3", r"group 'history', variant 'short': train.seed is not .*--seeds"),
        (VARIANT % "max_history: 3", r"group 'history', variant 'short': 'max_history=3': write model.NAME"),
        (
            "groups: {history: {fixed: {model.dim: 15}, variants: {short: {}}}}",
            r"group 'history', what all its variants have: model.dim=15 must be",
        ),
        (
            "groups: {history: {variant: {short: {}}}}",
            r"groups > history > (variants: missing|variant: not known here)",
        ),
        ("groups: {history: {variants: {}}}", r"group 'history' has no variants"),
        ("groups: {}", r"groups: empty"),
        ("groups: {history: {variants: {a: {}, a: {}}}}", r"'a' is there twice"),
        ("history: {short: {model.dim: 16}}", r"missing|not known here"),
        ("- a\n- b", r"the file: .*the form is groups:"),
        ("groups: {", r"is no YAML"),
        ("", r"the form is groups:"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_is_trained(
    text: str, message: str, tmp_path: Path, rf: Callable[..., Result], workspace: Settings
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    before = sorted(workspace.workspace.root.glob("*/*"))
    error = rf("ablate", "--grid", path).exception
    assert isinstance(error, ConfigError | UsageError), repr(error)
    assert re.search(message, str(error)), str(error)
    assert sorted(workspace.workspace.root.glob("*/*")) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--grid=tabel3"], r"no grid is named 'tabel3'; did you mean 'table3'\?; a file of your own ends in .yaml"),
        (["--grid=nothing.yaml"], r"grid nothing.yaml is not there"),
        (["--group=histroy"], r"no group in this grid is named 'histroy'; did you mean 'history'"),
        (["--set=train.seed=1"], r"--set train.seed: .*--seeds"),
        (["--seeds=a"], r"--seeds a: write whole numbers"),
        (["--seeds=0,0"], r"--seeds 0,0: give different"),
        (["--name=../x"], r"cannot be the name of a"),
        (["--only-report", "--name=none"], r"there is no ablation 'none'; there are:"),
        (["--only-report", "--set=model.dim=16"], r"leave out --set"),
        (["--only-report", "--recipe=demo", "--seeds=0,1"], r"leave out --recipe and --seeds"),
    ],
)
def test_wrong_options(options: list[str], message: str, rf: Callable[..., Result]) -> None:
    error = rf("ablate", *options).exception
    assert isinstance(error, RfError), repr(error)
    assert error.exit_code == 2
    assert re.search(message, str(error)), str(error)
