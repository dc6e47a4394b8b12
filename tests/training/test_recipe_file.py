"""Recipes in YAML files."""

from pathlib import Path

import pytest

from rf_platform.errors import ConfigError, NotFoundError, UsageError
from rf_training.recipes import TYPICAL, get_recipe, override, write_recipe


def test_settings_of_a_file_lie_on_top_of_a_named_recipe(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "from: ml-1m\ntrain: {learning_rate: 2e-3, epochs: 3}\nsharding: {domains: {item_id: table_wise}}\n"
    )
    recipe = get_recipe(str(file), TYPICAL)
    changes = ["train.learning_rate=2e-3", "train.epochs=3", "sharding.domains.item_id=table_wise"]
    expected = override(get_recipe("ml-1m"), changes)
    assert recipe.name == "mine"
    assert (recipe.model, recipe.train, recipe.sharding) == (expected.model, expected.train, expected.sharding)


@pytest.mark.parametrize("name", ["default", "paper", "amazon-beauty"])
def test_what_is_written_is_what_is_read(tmp_path: Path, name: str) -> None:
    recipe, file = get_recipe(name), tmp_path / f"{name}.yaml"
    write_recipe(file, recipe, name, "A title\nof two lines")
    assert file.read_text().startswith("# A title\n# of two lines\n")
    assert get_recipe(str(file)) == recipe


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("model: [", UsageError, "is no YAML"),
        ("just text", UsageError, "has no sections of settings; the form is"),
        ("model: 3", UsageError, "has no sections of settings"),
        ("modl: {dim: 3}", UsageError, "'modl' is not known here"),
        ("model: {dims: 3}", UsageError, r"x.yaml: .*did you mean model.dim"),
        ("model: {dim: 3}", ConfigError, "must be a multiple of model.heads"),
        ("from: nothing", NotFoundError, "no recipe 'nothing'"),
        ("from: other.yaml", UsageError, "must be a named recipe, not a file"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_by_name(
    tmp_path: Path, text: str, kind: type[Exception], reason: str
) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(kind, match=reason):
        get_recipe(str(file))


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(NotFoundError, match=r"recipe none\.yaml is not there"):
        get_recipe("none.yaml")
