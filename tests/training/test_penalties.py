"""What a recipe adds to the contrastive loss (R10, uniformity), and that a step adds it."""

import math
from dataclasses import replace

import pytest
import torch

from rf_platform.dataset import Dataset
from rf_training.config import Recipe, TrainConfig
from rf_training.loading.batches import Batch, BatchLoader
from rf_training.loss import info_nce, norm_penalty, uniformity_of, variance_penalty
from rf_training.model.config import ModelConfig
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.step import batch_loss

MODEL = ModelConfig(dim=16, max_history=8, dropout=0.0, feature_noise=0.0, item_id_noise=0.0)
TRAIN = TrainConfig(batch_size=8, uniform_negatives=5, precision="float32")


def start(dataset: Dataset, train: TrainConfig, scale: float = 1.0) -> tuple[RetrievalFormer, Batch]:
    """Always the same weights and the same batch; the queries are ``scale`` times as long."""
    torch.manual_seed(0)
    model = RetrievalFormer(MODEL, dataset.encoder)
    model.user_tower.project.weight.data.mul_(scale)
    return model, next(iter(BatchLoader(dataset, Recipe(name="t", model=MODEL, train=train)).epoch(0)))


def step(dataset: Dataset, train: TrainConfig, scale: float = 1.0) -> torch.Tensor:
    """The loss of one step."""
    return batch_loss(*start(dataset, train, scale), train).loss


def outputs(model: RetrievalFormer, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and candidates of the step, before they are normalised."""
    embedded = model.embed(batch.sides)
    h = model.encode_items(batch.sides["item"], embedded)
    context = {key: embedded[key].take(batch.context_V) for key in model.context_tokens.ids}
    z = model.encode_interactions(h[batch.item_V], batch.numbers, context)
    profiles = model.encode_profiles(batch.sides["user"], embedded)[batch.profile_BR]
    return model.encode_users(z, batch.length_B, profiles, batch.read_BR)[batch.real_BR], h[batch.candidate_C]


def test_the_norm_penalty_by_hand() -> None:
    u, v = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0]])
    assert norm_penalty(u, v).item() == (25 + 1) / 2 + 4


def test_the_norm_penalty_pulls_both_towers_inwards() -> None:
    u, v = torch.randn(5, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True)
    norm_penalty(u, v).backward()  # type: ignore[no-untyped-call]
    for vectors in (u, v):
        assert vectors.grad is not None
        torch.testing.assert_close(vectors.grad, 2 * vectors.detach() / len(vectors))


def test_collapsed_vectors_cost_the_most() -> None:
    torch.manual_seed(0)
    spread = torch.nn.functional.normalize(torch.randn(500, 8), dim=1)
    collapsed = torch.nn.functional.normalize(torch.ones(500, 8) + 0.01 * torch.randn(500, 8), dim=1)
    assert variance_penalty(spread) < 0.1 < 0.9 < variance_penalty(collapsed)
    assert uniformity_of(spread) < -3 < -0.1 < uniformity_of(collapsed)


def test_uniformity_of_distinct_pairs_by_hand() -> None:
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    expected = math.log((math.exp(-8) + 2 * math.exp(-4)) / 3)  # squared distances 4, 2, 2
    assert math.isclose(uniformity_of(opposite).item(), expected, rel_tol=1e-5)


@pytest.mark.parametrize("name", ["norm_penalty", "variance_penalty", "uniformity_weight"])
def test_a_step_adds_a_term_as_often_as_the_recipe_says(dataset: Dataset, name: str) -> None:
    """With its sign: a penalty raises the loss by what it is worth."""
    plain, once, twice = (step(dataset, replace(TRAIN, **{name: weight})) for weight in (0.0, 0.5, 1.0))  # type: ignore[arg-type]
    u, v = outputs(*start(dataset, TRAIN))
    y = torch.nn.functional.normalize(v, dim=-1)
    terms = {"norm_penalty": norm_penalty(u, v), "variance_penalty": variance_penalty(y)}
    term = (terms | {"uniformity_weight": uniformity_of(y)})[name]
    assert abs(term) > 1e-3
    torch.testing.assert_close(once - plain, 0.5 * term, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(twice - plain, term, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["variance_penalty", "uniformity_weight"])
def test_a_step_along_the_gradient_of_a_penalty_spreads_the_items(dataset: Dataset, name: str) -> None:
    spread = []
    for train in (TRAIN, replace(TRAIN, **{name: 5.0})):  # type: ignore[arg-type]
        model, batch = start(dataset, train)
        batch_loss(model, batch, train).loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(1e-4 * parameter.grad)
        spread.append(torch.nn.functional.normalize(outputs(model, batch)[1], dim=-1).var(0).sum().item())
    assert spread[1] > spread[0]


def test_the_norm_penalty_of_a_step_is_of_vectors_before_they_are_normalised(dataset: Dataset) -> None:
    """The length of the queries is nothing to the contrastive loss."""
    torch.testing.assert_close(step(dataset, TRAIN), step(dataset, TRAIN, scale=3.0), atol=1e-5, rtol=1e-5)
    penalised = replace(TRAIN, norm_penalty=1.0)
    assert step(dataset, penalised, scale=3.0) > step(dataset, penalised) + 1


@pytest.mark.parametrize("own", [False, True])
def test_a_step_takes_positives_of_the_own_window_for_negatives_or_not(dataset: Dataset, own: bool) -> None:
    train = replace(TRAIN, mask_own_positives=own)
    model, batch = start(dataset, train)
    u, v = outputs(model, batch)
    window = torch.repeat_interleave(torch.arange(len(batch.real_BR)), batch.real_BR.sum(1))
    hits = torch.stack(
        [
            torch.isin(batch.item_C, batch.item_C[batch.target_Q[window == w if own else [q]]])
            for q, w in enumerate(window)
        ]
    )
    x, y = (torch.nn.functional.normalize(each, dim=-1) for each in (u, v))
    expected = info_nce(x, y, model.bias(v), batch.target_Q, hits, batch.log_weight_C, train.temperature)
    torch.testing.assert_close(batch_loss(model, batch, train).loss, expected, atol=1e-5, rtol=1e-5)


def test_hard_negatives_reach_the_step(dataset: Dataset) -> None:
    assert step(dataset, replace(TRAIN, hard_negatives=1.0)) > step(dataset, TRAIN) + 1e-4
