"""Weights of targets: by type and by column, in the loss and in the validation metric; equal ones change nothing at all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from rf_platform.dataset import Dataset
from rf_platform.errors import ConfigError
from rf_training import loss
from rf_training.config import Recipe, TrainConfig
from rf_training.loading.batches import BatchLoader
from rf_training.model.config import ModelConfig
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.step import batch_loss
from rf_training.targets.event_types import EventTypes
from rf_training.targets.weights import TargetWeights
from rf_training.trainer import Trainer

TRAIN = TrainConfig(epochs=1, batch_size=8, uniform_negatives=10)


def weights_of(dataset: Dataset, train: TrainConfig) -> TargetWeights | None:
    return TargetWeights.of(dataset, train.weights(dataset.spec))


def train_rows(dataset: Dataset) -> np.ndarray:
    return np.flatnonzero(np.asarray(dataset.sequences.split) == 0)


def test_weights_by_type_have_a_mean_of_one(typed: Dataset) -> None:
    weights = weights_of(typed, TRAIN)
    types = EventTypes.of(typed)
    assert weights is not None
    assert types is not None
    rows = train_rows(typed)
    found, bought = weights(rows), types.codes(rows) == types.names.index("purchase")
    assert found.mean() == pytest.approx(1)
    np.testing.assert_allclose(found[bought], 5 * found[~bought][0], rtol=1e-6)
    other = weights_of(
        typed, replace(TRAIN, event_weights={"view": 2.5})
    )  # beside the 5 of a purchase, which is declared
    assert other is not None
    assert other(rows)[bought][0] / other(rows)[~bought][0] == pytest.approx(2)


def test_weights_by_a_column_are_its_numbers(dataset: Dataset) -> None:
    weights = weights_of(dataset, replace(TRAIN, weigh_by="rating"))
    assert weights is not None
    rows = train_rows(dataset)
    ratings = np.asarray(dataset.sequences.context_numbers[rows, 0])
    np.testing.assert_allclose(weights(rows), ratings / ratings.mean(), rtol=1e-6)
    gaps = Dataset(path=dataset.path, manifest=dataset.manifest, spec=dataset.spec)
    numbers = np.array(dataset.sequences.context_numbers)
    numbers[rows[0]] = np.nan
    gaps.__dict__["sequences"] = replace(dataset.sequences, context_numbers=numbers)
    found = weights_of(gaps, replace(TRAIN, weigh_by="rating"))
    assert found is not None
    assert found(rows)[0] == 1.0
    assert found(rows)[1:].mean() == pytest.approx(1)
    numbers[rows[0]] = -1
    with pytest.raises(ConfigError, match=r"weights by 'rating' are from -1 to 5 .* a weight is a number of 0 or more"):
        weights_of(gaps, replace(TRAIN, weigh_by="rating"))


def test_what_cannot_weigh_is_refused(typed: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"train.event_weights.purchas: no event .* did you mean 'purchase'\?"):
        BatchLoader(typed, Recipe(name="t", train=replace(TRAIN, event_weights={"purchas": 2.0})))
    with pytest.raises(
        ConfigError, match=r"need 'stars' as a numeric field of the history, and it keeps numbers of rating"
    ):
        weights_of(typed, replace(TRAIN, weigh_by="stars"))
    with pytest.raises(ConfigError, match=r"no training event .* weighs anything"):
        weights_of(typed, replace(TRAIN, event_weights={"purchase": 0.0, "view": 0.0}))
    with pytest.raises(ConfigError, match=r"train.event_weights has no effect with train.weigh_by=equal"):
        replace(TRAIN, weigh_by="equal", event_weights={"view": 1.0})


@pytest.mark.parametrize("objective", ["sampled", "full"])
def test_the_loss_is_the_weighted_mean(typed: Dataset, objective: str) -> None:
    """A batch's loss and its gradient against those of every target by itself."""
    torch.manual_seed(0)
    recipe = Recipe(
        name="t",
        model=ModelConfig(dim=16, max_history=6, dropout=0.0, item_id_noise=0.0, feature_noise=0.0),
        train=replace(TRAIN, objective=objective, precision="float32"),  # type: ignore[arg-type]
    )
    batch = next(BatchLoader(typed, recipe).epoch(0))
    assert len(batch.weight_Q) == len(batch.target_Q)
    model = RetrievalFormer(recipe.model, typed.encoder)
    with torch.no_grad():
        mean = batch_loss(model, batch, recipe.train).loss
        ones = torch.eye(len(batch.target_Q)) * len(batch.target_Q)
        each = torch.stack([batch_loss(model, replace(batch, weight_Q=one), recipe.train).loss for one in ones])
    torch.testing.assert_close(mean, (each * batch.weight_Q).mean())


def test_the_exact_softmax_has_the_gradient_of_the_weighted_mean() -> None:
    torch.manual_seed(0)
    x, y, bias = (torch.randn(*shape).requires_grad_() for shape in ((5, 4), (7, 4), (7,)))
    target, weight = torch.tensor([0, 6, 3, 3, 1]), torch.tensor([0.0, 1.0, 2.5, 0.5, 1.0])
    plain = (F.cross_entropy((x @ y.T + bias) / 0.1, target, reduction="none", label_smoothing=0.1) * weight).mean()
    expected = torch.autograd.grad(plain, (x, y, bias))
    found = loss.full_softmax(x, y, bias, target, 0.1, 0.1, weight_Q=weight)
    torch.testing.assert_close(found, plain)
    for mine, theirs in zip(torch.autograd.grad(found, (x, y, bias)), expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_equal_weights_leave_losses_and_weights_as_they_were_to_the_last_bit(typed: Dataset, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    states = []
    for name, train in (
        ("unweighed", replace(TRAIN, weigh_by="equal")),
        ("equal", replace(TRAIN, event_weights={"purchase": 3.0, "view": 3.0})),
        ("declared", TRAIN),
    ):
        directory = tmp_path / name
        directory.mkdir()
        Trainer(Recipe(name="t", model=ModelConfig(dim=16, max_history=6), train=train), typed, directory).run(False)
        state = load_file(directory / "best" / "weights.safetensors")
        states.append((state, (directory / "history.jsonl").read_text()))
    (unweighed, validated), (equal, validated_too), (declared, _) = states
    assert validated == validated_too
    assert all(torch.equal(weight, equal[name]) for name, weight in unweighed.items())
    assert not all(torch.equal(weight, declared[name]) for name, weight in unweighed.items())
