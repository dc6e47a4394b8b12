"""Every kind of feature becomes a token, and a missing one is marked (R1, Eq. 1)."""

import pytest
import torch
from torch import Tensor

from rf_training.model.inputs import Embedded, FeatureTensors
from rf_training.model.tokens import FeatureTokens

NAN = float("nan")


@pytest.fixture
def tokens() -> FeatureTokens:
    """One categorical feature, two numbers and one dense vector, with weights that have moved."""
    torch.manual_seed(0)
    made = FeatureTokens({"genre": 4}, ["price", "age"], {"text": 3}, 4)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter))
    return made


def encode(
    tokens: FeatureTokens, genre: Tensor, known: bool, price: float, age: float, text: Tensor
) -> tuple[Tensor, Tensor]:
    features = FeatureTensors(1, {}, {"price": torch.tensor([price]), "age": torch.tensor([age])}, {"text": text[None]})
    made: tuple[Tensor, Tensor] = tokens(features, {"genre": Embedded(genre[None], torch.tensor([known]))})
    return made[0][0], made[1][0]


def test_every_kind_has_a_token_that_depends_on_its_own_value_only(tokens: FeatureTokens) -> None:
    genre, text = torch.randn(4), torch.randn(3)
    base, present = encode(tokens, genre, True, 1.0, 2.0, text)
    assert tokens.count == 4
    assert base.shape == (4, 4)
    assert present.all()
    changed = [
        encode(tokens, genre + 1, True, 1.0, 2.0, text),
        encode(tokens, genre, True, 1.5, 2.0, text),
        encode(tokens, genre, True, 1.0, 2.5, text),
        encode(tokens, genre, True, 1.0, 2.0, text + 1),
    ]
    for place, (other, _) in enumerate(changed):
        assert (base != other).any(1).tolist() == [place == n for n in range(4)]


def test_a_missing_value_is_marked_and_its_token_is_finite(tokens: FeatureTokens) -> None:
    genre, text = torch.randn(4), torch.randn(3)
    missing = [
        encode(tokens, torch.zeros(4), False, 1.0, 2.0, text),
        encode(tokens, genre, True, NAN, 2.0, text),
        encode(tokens, genre, True, 1.0, NAN, text),
        encode(tokens, genre, True, 1.0, 2.0, torch.tensor([1.0, NAN, 0.0])),
    ]
    for place, (made, present) in enumerate(missing):
        assert present.tolist() == [place != n for n in range(4)]
        assert made.isfinite().all()


def test_an_ids_token_starts_as_its_embedding() -> None:
    made = FeatureTokens({"genre": 4, "year": 4}, [], {}, 4)
    pooled = {key: Embedded(torch.randn(2, 4), torch.ones(2, dtype=torch.bool)) for key in made.ids}
    tokens, _ = made(FeatureTensors(2, {}, {}, {}), pooled)
    for place, key in enumerate(made.ids):
        torch.testing.assert_close(tokens[:, place], pooled[key].pooled_RD)
