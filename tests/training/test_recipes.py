"""Recipes and what ``--set`` makes of them."""

from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from rf_platform.dataset import Dataset
from rf_platform.errors import ConfigError, NotFoundError, UsageError
from rf_training.config import Recipe, TrainConfig
from rf_training.loading.batches import BatchLoader
from rf_training.model.config import ModelConfig
from rf_training.model.fusion import AttentionFusion
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.recipes import RECIPES, DatasetStatistics, get_recipe, override
from rf_training.recipes.table import FULL_ITEMS, FULL_SOFTMAX
from rf_training.step import batch_loss

BASE = Recipe(name="base")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_complete_and_knows_its_name(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.name == name
    assert override(recipe, ()) == recipe


def test_an_unknown_recipe_suggests_one() -> None:
    with pytest.raises(NotFoundError, match=r"no recipe 'defualt'; did you mean 'default'\?"):
        get_recipe("defualt")
    with pytest.raises(NotFoundError, match=rf"no recipe 'x'; known are {', '.join(RECIPES)}"):
        get_recipe("x")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("model.dim=128", 128),
        ("model.dropout=0", 0.0),
        ("model.item_id=false", False),
        ("model.share_domains=0", False),
        ("model.layout=cls", "cls"),
        ("model.fusion=mean", "mean"),
        ("train.epochs=3", 3),
        ("train.learning_rate=5e-4", 5e-4),
        ("train.ema_decay=0", 0.0),
        ("train.mask_own_positives=true", True),
        ("train.seed=7", 7),
    ],
)
def test_a_setting_has_its_type_and_changes_nothing_else(setting: str, value: Any) -> None:
    section, _, name = setting.partition("=")[0].partition(".")
    before, after = asdict(BASE), asdict(override(BASE, [setting]))
    assert before[section][name] != value
    assert (after[section][name], type(after[section][name])) == (value, type(value))
    before[section][name] = value
    assert after == before
    assert Recipe(name="base") == BASE  # the recipe it started from is as it was


def test_what_a_recipe_says_for_its_objective_does_not_hold_for_another() -> None:
    recipe = get_recipe("amazon-beauty")
    assert recipe.train.label_smoothing > 0
    assert override(recipe, ["train.objective=sampled"]).train.label_smoothing == 0
    assert override(recipe, ["train.objective=full"]).train.label_smoothing == recipe.train.label_smoothing
    with pytest.raises(ConfigError, match="label_smoothing"):
        override(recipe, ["train.objective=sampled", "train.label_smoothing=0.1"])


def test_several_settings_and_the_last_word_counts() -> None:
    recipe = override(BASE, ["model.dim=32", "train.epochs=2", "model.layers=1", "train.epochs=4"])
    assert recipe == replace(BASE, model=ModelConfig(dim=32, layers=1), train=TrainConfig(epochs=4))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.dmi=3", r"--set 'model\.dmi=3': no setting model\.dmi; did you mean model\.dim\?"),
        ("train.epoch=3", r"no setting train\.epoch; did you mean train\.epochs\?"),
        ("train.zzz=3", r"no setting train\.zzz; known are epochs, objective, .*checkpoint_steps"),
        ("train.dim=3", r"no setting train\.dim"),
        (
            "optimiser.lr=3",
            r"--set 'optimiser\.lr=3': write model\.NAME=VALUE, train\.NAME=VALUE or sharding\.NAME=VALUE",
        ),
        ("dim=3", r"--set 'dim=3': write model\.NAME=VALUE"),
        ("model.dim", r"--set 'model\.dim': write model\.NAME=VALUE"),
        ("name=x", r"--set 'name=x': write"),
        ("", r"--set '': write"),
    ],
)
def test_an_unknown_setting_says_what_was_meant(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        override(BASE, [setting])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.dim=wide", r"--set 'model\.dim=wide': model\.dim takes int: .*integer"),
        ("model.dim=3.5", r"model\.dim takes int"),
        ("model.dim=", r"model\.dim takes int"),
        ("train.learning_rate=fast", r"train\.learning_rate takes float"),
        ("model.item_id=perhaps", r"model\.item_id takes bool"),
        ("model.layout=tail", r"model\.layout takes Literal.*'cls'.*'prefix'"),
    ],
)
def test_a_value_of_another_type_is_refused(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        override(BASE, ["train.epochs=2", setting])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.dim=0"], r"model\.dim=0 must be at least 1"),
        (["model.dim=15"], r"model\.dim=15 must be a multiple of model\.heads=2"),
        (["model.heads=3"], r"model\.dim=64 must be a multiple of model\.heads=3"),
        (["model.fusion_heads=5"], r"must be a multiple of model\.fusion_heads=5"),
        (["model.dropout=1"], r"model\.dropout=1\.0 must be in \[0, 1\)"),
        (["train.epochs=0"], r"train\.epochs=0 must be at least 1"),
        (["train.learning_rate=nan"], r"train\.learning_rate=nan must be positive"),
        (["train.temperature=0"], r"train\.temperature=0\.0 must be positive"),
        (["train.overlap=1"], r"train\.overlap=1\.0 must be in \[0, 1\)"),
        (["train.ema_decay=-0.1"], r"train\.ema_decay=-0\.1 must be in \[0, 1\)"),
        (["train.uniform_negatives=-1"], r"train\.uniform_negatives=-1 must not be negative"),
        (["train.learning_rate=1e-6"], r"train\.final_learning_rate=1e-05 must not exceed train\.learning_rate=1e-06"),
    ],
)
def test_a_value_that_cannot_be_or_contradicts_another(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(BASE, settings)


def test_settings_are_checked_together_not_one_by_one() -> None:
    """Either of each pair alone contradicts the recipe."""
    settings = ["model.dim=15", "model.heads=3", "model.fusion_heads=5"]
    settings += ["train.learning_rate=1e-6", "train.final_learning_rate=1e-7"]
    for order in (settings, settings[::-1]):
        recipe = override(BASE, order)
        assert (recipe.model.dim, recipe.model.heads, recipe.model.fusion_heads) == (15, 3, 5)
        assert (recipe.train.learning_rate, recipe.train.final_learning_rate) == (1e-6, 1e-7)


SPARSE = DatasetStatistics(items=12_000, users=22_000, events=154_000, long_history=13, served_history=50)
LONG = DatasetStatistics(items=3_400, users=6_000, events=988_000, long_history=400, served_history=200)
HUGE = DatasetStatistics(items=2_000_000, users=9_000_000, events=400_000_000, long_history=120, served_history=200)


def test_the_default_recipe_follows_the_data() -> None:
    sparse, long, huge = (get_recipe("default", data) for data in (SPARSE, LONG, HUGE))
    assert sparse.model.max_history < long.model.max_history
    assert get_recipe("default", replace(SPARSE, events=50_000)).model.dim < sparse.model.dim
    assert sparse.model.dropout > long.model.dropout
    assert sparse.train.batch_size > long.train.batch_size
    assert (long.train.objective, huge.train.objective) == ("full", "sampled")
    assert get_recipe("default", replace(LONG, served_history=30)).model.max_history == 30  # no more than is served


def test_the_recipe_of_the_paper_has_its_model_and_its_values(dataset: Dataset) -> None:
    """Attention at all three levels, read at CLS, trained as its appendix C says; and a step of it can be taken."""
    recipe = get_recipe("paper", DatasetStatistics.of(dataset))
    model, train = recipe.model, recipe.train
    assert (model.layout, model.fusion, model.bag_pooling, model.context) == ("cls", "attention", "mean", True)
    assert (model.item_id_noise, model.feature_noise) == (0.05, 0.05)
    assert (train.objective, train.temperature, train.hard_negatives) == ("sampled", 0.07, 0.0)
    assert train.uniform_negatives > 0
    assert (train.norm_penalty, train.composition) == (1e-5, "balanced")
    assert train.variance_penalty > 0
    assert (train.final_learning_rate, train.learning_rate, train.warmup_epochs) == (1e-5, 1e-3, 5.0)
    assert train.epochs > train.warmup_epochs
    built = RetrievalFormer(model, dataset.encoder)
    fusions = (built.item_fusion, built.interaction_fusion, built.profile_fusion)
    assert all(isinstance(fusion, AttentionFusion) for fusion in fusions)
    batch_loss(built, next(iter(BatchLoader(dataset, recipe).epoch(0))), train).loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for fusion in fusions for p in fusion.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert built.interaction_gate.grad is not None


def test_the_exact_softmax_ends_where_its_cost_does() -> None:
    busy = replace(LONG, events=1_500_000)
    limit = int(FULL_SOFTMAX / (busy.events * get_recipe("default", busy).model.dim * 3))
    assert get_recipe("default", replace(busy, items=limit)).train.objective == "full"
    assert get_recipe("default", replace(busy, items=limit + 1)).train.objective == "sampled"
    quiet = replace(SPARSE, events=60_000)
    assert get_recipe("default", replace(quiet, items=FULL_ITEMS)).train.objective == "full"
    assert get_recipe("default", replace(quiet, items=FULL_ITEMS + 1)).train.objective == "sampled"


def test_statistics_are_those_of_the_training_split(dataset: Dataset) -> None:
    found = DatasetStatistics.of(dataset)
    sequences = dataset.sequences
    train = np.asarray(sequences.split) == 0
    per_user = [int(train[a:b].sum()) for a, b in pairwise(np.asarray(sequences.offsets))]
    assert found.events == train.sum() < len(train)
    assert found.users == len(per_user)
    assert found.items == len(set(np.asarray(sequences.item)[train].tolist()))
    assert found.long_history == np.quantile(per_user, 0.9)
    assert found.events_per_item == found.events / found.items
    assert found.served_history == dataset.spec.history_length
