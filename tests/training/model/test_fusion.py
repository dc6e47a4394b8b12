"""Fusion of feature sets (R2, R3)."""

import pytest
import torch

from rf_training.model.fusion import AttentionFusion, Fusion, MeanFusion


def trained(kind: str) -> Fusion:
    """A fusion whose zero-initialised branches have moved."""
    torch.manual_seed(0)
    fusion: Fusion = AttentionFusion(8, heads=2, ffn=2, dropout=0.0) if kind == "attention" else MeanFusion(8)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return fusion.eval()


@pytest.fixture(params=["attention", "mean"])
def fusion(request: pytest.FixtureRequest) -> Fusion:
    return trained(request.param)


def test_order_of_features_does_not_matter(fusion: Fusion) -> None:
    tokens, present = torch.randn(5, 4, 8), torch.rand(5, 4) > 0.3
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(fusion(tokens, present), fusion(tokens[:, order], present[:, order]))


def test_a_missing_feature_changes_nothing(fusion: Fusion) -> None:
    tokens = torch.randn(3, 4, 8)
    present = torch.tensor([[True, True, False, True]] * 3)
    other = tokens.clone()
    other[:, 2] = 1e3
    torch.testing.assert_close(fusion(tokens, present), fusion(other, present))
    without = [0, 1, 3]
    torch.testing.assert_close(fusion(tokens, present), fusion(tokens[:, without], present[:, without]))


def test_a_present_feature_changes_something(fusion: Fusion) -> None:
    tokens, present = torch.randn(3, 4, 8), torch.ones(3, 4, dtype=torch.bool)
    other = tokens.clone()
    other[:, 2] += 1
    assert not torch.allclose(fusion(tokens, present), fusion(other, present))


def test_nothing_known_gives_the_learned_vector(fusion: Fusion) -> None:
    tokens, present = torch.randn(2, 4, 8), torch.zeros(2, 4, dtype=torch.bool)
    torch.testing.assert_close(fusion(tokens, present), fusion.empty_D.expand(2, 8))


def test_attention_starts_from_the_mean_of_normalised_features() -> None:
    fusion = AttentionFusion(8, heads=2, ffn=2, dropout=0.0).eval()
    tokens, present = torch.randn(5, 4, 8), torch.ones(5, 4, dtype=torch.bool)
    normalised = torch.nn.functional.layer_norm(tokens, (8,))
    torch.testing.assert_close(fusion(tokens, present), normalised.mean(1), atol=1e-4, rtol=1e-4)
