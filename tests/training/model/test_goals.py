"""Goals: one tower asked for purchases or for views, in training, in the evaluation and as it is served."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rf_platform.dataset import Dataset
from rf_platform.errors import ConfigError, UsageError
from rf_training.config import Recipe, TrainConfig
from rf_training.loading.batches import BatchLoader
from rf_training.loading.goals import GoalDraws
from rf_training.loading.tables import EncodedSides
from rf_training.model.blocks import TOWERS
from rf_training.model.config import ModelConfig
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.served import ServedTower
from rf_training.model_scorer import ModelScorer, encode_context_rows
from rf_training.targets.event_types import EventTypes
from rf_training.targets.weights import TargetWeights
from rf_training.trainer import Trainer

MODEL = ModelConfig(dim=16, max_history=6, goals=True)
TRAIN = TrainConfig(epochs=1, batch_size=8, uniform_negatives=10, weigh_by="equal")


def bought(dataset: Dataset, events: np.ndarray) -> np.ndarray:
    types = EventTypes.of(dataset)
    assert types is not None
    found: np.ndarray = types.codes(events) == types.names.index("purchase")
    return found


def test_a_target_trained_with_weights_is_of_each_type_as_often_as_they_say(typed: Dataset) -> None:
    """Those for whom purchases weigh between .45 and .55 bought in half of the cases, whatever the share of purchases in all."""
    draws = GoalDraws(typed, 0.999, None)
    rows = np.flatnonzero(np.asarray(typed.sequences.split) == 0)
    assert draws.mix_G.sum() == pytest.approx(1)
    purchase = RetrievalFormer(MODEL, typed.encoder).goals.names.index("purchase")  # type: ignore[union-attr]
    assert draws.mix_G[purchase] == pytest.approx(bought(typed, rows).mean())
    events = np.tile(rows, 200)
    weight_Q = draws.draw(events, np.random.default_rng(0))[:, purchase]
    drawn = weight_Q != draws.mix_G[purchase]
    for low in (0.05, 0.25, 0.45, 0.85):
        near = drawn & (weight_Q > low) & (weight_Q < low + 0.1)
        assert bought(typed, events[near]).mean() == pytest.approx(low + 0.05, abs=0.04)
    weights = TargetWeights.of(typed, typed.spec.weights)
    shares = bought(typed, rows).mean()
    assert GoalDraws(typed, 0.5, weights).mix_G[purchase] == pytest.approx(5 * shares / (5 * shares + 1 - shares))


@pytest.mark.parametrize(
    ("tower", "layout"), [(name, layout) for name, kind in TOWERS.items() for layout in kind.layouts]
)
def test_the_served_tower_answers_every_mixture_as_training_does(typed: Dataset, layout: str, tower: str) -> None:
    torch.manual_seed(0)
    model = RetrievalFormer(replace(MODEL, layout=layout, tower=tower), typed.encoder).eval()  # type: ignore[arg-type]
    assert model.goals is not None
    torch.nn.init.normal_(model.goals.goal_GD)
    sides = EncodedSides.of(typed)
    length_B = np.array([4, 2, 0])
    events = np.array([0, 1, 2, 3, 12, 13])
    first = np.array([True, False, False, False, True, False])
    context = encode_context_rows(typed, events, first)
    users = sides.users.take(np.array([0, 1, 2]))
    with torch.inference_mode():
        h_VD = model.encode_items(FeatureTensors.from_encoded(sides.items.take(np.array([0, 5, 7, 9, 3, 4]))))
        numbers = FeatureTensors.from_encoded(context)
        z_VD = model.encode_interactions(h_VD, numbers)
        profile_BRD = model.encode_profiles(FeatureTensors.from_encoded(users))[:, None]
        goals = [
            model.goals.weights({"purchase": 3, "view": 1}).numpy(),
            None,
            model.goals.weights({"view": 1}).numpy(),
        ]
        goal_BRG = torch.stack([model.goals.mix_G if g is None else torch.from_numpy(g) for g in goals])[:, None]
        lengths, seconds_V = torch.from_numpy(length_B), model.seconds(numbers)
        u_BD = model.encode_users(z_VD, lengths, profile_BRD, seconds_V=seconds_V, goal_BRG=goal_BRG)[:, 0]
        plain_BD = model.encode_users(z_VD, lengths, profile_BRD, seconds_V=seconds_V)[:, 0]
    served = ServedTower(model, typed.spec)
    found = served(h_VD.numpy(), length_B, users, context, goals)
    np.testing.assert_allclose(found.users_BD, u_BD, atol=2e-5)
    np.testing.assert_allclose(served(h_VD.numpy(), length_B, users, context).users_BD, plain_BD, atol=2e-5)
    assert not torch.allclose(u_BD[0], plain_BD[0], atol=1e-2)
    torch.testing.assert_close(u_BD[1], plain_BD[1])


def test_training_keeps_the_shares_and_moves_the_tokens(typed: Dataset, tmp_path: Path) -> None:
    recipe = Recipe(name="t", model=MODEL, train=replace(TRAIN, objective="full", learning_rate=0.05))
    trainer = Trainer(recipe, typed, tmp_path)
    trainer.run(False)
    state = load_file(tmp_path / "best" / "weights.safetensors")
    assert state["goals.goal_GD"].abs().max() > 1e-3
    assert trainer.loader.goals is not None
    np.testing.assert_allclose(state["goals.mix_G"], trainer.loader.goals.mix_G, rtol=1e-6)
    model = RetrievalFormer(MODEL, typed.encoder)
    model.load_state_dict(state)
    scorer = ModelScorer(model, typed)
    users, lengths = np.array([0, 1]), np.array([5, 3])
    plain, purchases = scorer.queries(users, lengths), scorer.asking({"purchase": 1}, "buy").queries(users, lengths)
    assert not torch.allclose(plain, purchases)
    names = scorer.goals
    natural = dict(zip(names, map(float, trainer.loader.goals.mix_G), strict=True))
    torch.testing.assert_close(scorer.asking(natural, "as without").queries(users, lengths), plain)


def test_without_goals_batches_are_what_they_were(typed: Dataset) -> None:
    plain = BatchLoader(typed, Recipe(name="t", model=replace(MODEL, goals=False), train=TRAIN))
    with_goals = BatchLoader(typed, Recipe(name="t", model=MODEL, train=TRAIN))
    for one, other in zip(plain.epoch(0), with_goals.epoch(0), strict=True):
        assert torch.equal(one.candidate_C, other.candidate_C)
        assert torch.equal(one.read_BR, other.read_BR)
        assert one.goal_QG.numel() == 0
        torch.testing.assert_close(other.goal_QG.sum(1), torch.ones(len(other.target_Q)))


def test_goals_that_cannot_be_are_refused(typed: Dataset, dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"needs training events of two types at least, and all are of type 'rating'"):
        RetrievalFormer(MODEL, dataset.encoder)
    goals = RetrievalFormer(MODEL, typed.encoder).goals
    assert goals is not None
    for asked, message in (
        ({"purchas": 1.0}, r"'purchas' is no goal of this model; did you mean 'purchase'\?"),
        ({"purchase": float("nan")}, r"the weight of 'purchase' is nan; give a number of 0 or more"),
        ({"purchase": -1.0}, r"the weight of 'purchase' is -1"),
        ({"purchase": 0.0}, r"no goal has a weight above 0; known are"),
    ):
        with pytest.raises(UsageError, match=message):
            goals.weights(asked)
    for unit in (1.0, 1e300, 1e-300):  # beyond float32, and below it
        assert goals.weights({"purchase": 3 * unit, "view": unit})[goals.names.index("purchase")] == 0.75
