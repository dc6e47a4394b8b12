"""Fusion of feature sets (R2, R3)."""

import pytest
import torch

from rf_training.model.fusion import FUSIONS, AttentionFusion, ConcatFusion, CrossAttentionFusion, Fusion, make_fusion

KINDS: tuple[str, ...] = tuple(FUSIONS)
OF_A_SET: tuple[str, ...] = ("attention", "mean", "attention-pool")


def new(kind: str, count: int = 4) -> Fusion:
    torch.manual_seed(0)
    return make_fusion(kind, 8, heads=2, ffn=2, dropout=0.0, count=count).eval()


def trained(kind: str, count: int = 4) -> Fusion:
    """A fusion whose parameters have all moved from where they start."""
    fusion = new(kind, count)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return fusion


@pytest.fixture(params=KINDS)
def fusion(request: pytest.FixtureRequest) -> Fusion:
    return trained(request.param)


@pytest.mark.parametrize(
    ("kind", "order"),
    [*((kind, [2, 0, 3, 1]) for kind in OF_A_SET), ("cross-attention", [0, 3, 1, 2])],
)
def test_order_of_features_does_not_matter(kind: str, order: list[int]) -> None:
    """Of cross-attention, the order of those that are asked."""
    fusion, tokens, present = trained(kind), torch.randn(50, 4, 8), torch.rand(50, 4) > 0.3
    torch.testing.assert_close(fusion(tokens, present), fusion(tokens[:, order], present[:, order]))


@pytest.mark.parametrize("kind", ["cross-attention", "concat"])
def test_who_asks_and_who_stands_where_matters(kind: str) -> None:
    fusion, tokens, present = trained(kind), torch.randn(5, 4, 8), torch.ones(5, 4, dtype=torch.bool)
    assert not torch.allclose(fusion(tokens, present), fusion(tokens[:, [1, 0, 2, 3]], present), atol=1e-2)


@pytest.mark.parametrize("missing", range(4))
def test_a_missing_feature_changes_nothing(fusion: Fusion, missing: int) -> None:
    tokens, present = torch.randn(3, 4, 8), torch.ones(3, 4, dtype=torch.bool)
    present[:, missing] = False
    other = tokens.clone()
    other[:, missing] = 1e3
    torch.testing.assert_close(fusion(tokens, present), fusion(other, present))


@pytest.mark.parametrize("kind", [*OF_A_SET, "cross-attention"])
def test_a_missing_feature_is_as_if_it_were_not_one(kind: str) -> None:
    fusion, tokens, present = trained(kind), torch.randn(3, 4, 8), torch.tensor([[True, True, False, True]] * 3)
    without = [0, 1, 3]
    torch.testing.assert_close(fusion(tokens, present), fusion(tokens[:, without], present[:, without]))


def test_a_missing_feature_of_a_concatenation_is_a_learned_vector() -> None:
    fusion, tokens, present = trained("concat"), torch.randn(3, 4, 8), torch.tensor([[True, True, False, True]] * 3)
    assert isinstance(fusion, ConcatFusion)
    filled = tokens.clone()
    filled[:, 2] = fusion.absent_MD[2]
    torch.testing.assert_close(fusion(tokens, present), fusion(filled, torch.ones_like(present)))


def test_every_present_feature_changes_something(fusion: Fusion) -> None:
    tokens, present = torch.randn(3, 4, 8), torch.ones(3, 4, dtype=torch.bool)
    for feature in range(4):
        other = tokens.clone()
        other[:, feature] += 1
        assert not torch.allclose(fusion(tokens, present), fusion(other, present))


def test_nothing_known_gives_the_learned_vector(fusion: Fusion) -> None:
    tokens, present = torch.randn(2, 4, 8), torch.zeros(2, 4, dtype=torch.bool)
    torch.testing.assert_close(fusion(tokens, present), fusion.empty_D.expand(2, 8))


def test_gradients_stay_finite_whatever_is_missing(fusion: Fusion) -> None:
    tokens = torch.randn(16, 4, 8, requires_grad=True)
    present = torch.tensor([[bool(n >> bit & 1) for bit in range(4)] for n in range(16)])
    fusion(tokens, present).square().sum().backward()
    assert tokens.grad is not None
    assert tokens.grad.isfinite().all()
    assert (tokens.grad[~present] == 0).all()
    assert (tokens.grad[present].abs().sum(1) > 0).all()
    for name, parameter in fusion.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_no_rows_give_no_vectors(fusion: Fusion) -> None:
    """The interactions of a user without a history."""
    assert fusion(torch.zeros(0, 4, 8), torch.zeros(0, 4, dtype=torch.bool)).shape == (0, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_one_feature_is_enough(kind: str) -> None:
    fusion, tokens = trained(kind, count=1), torch.randn(3, 1, 8)
    fused = fusion(tokens, torch.tensor([[True], [True], [False]]))
    assert fused.isfinite().all()
    torch.testing.assert_close(fused[2], fusion.empty_D)


@pytest.mark.parametrize("kind", ["mean", "attention-pool", "cross-attention", "concat"])
def test_training_starts_from_the_mean(kind: str) -> None:
    tokens, present = torch.randn(5, 4, 8), torch.ones(5, 4, dtype=torch.bool)
    torch.testing.assert_close(new(kind)(tokens, present), tokens.mean(1))


@pytest.mark.parametrize("kind", KINDS)
def test_training_starts_towards_the_mean_of_what_is_known(kind: str) -> None:
    """Towers compare directions: with features missing, that of the mean is what counts."""
    tokens = torch.nn.functional.layer_norm(torch.randn(7, 3, 8), (8,))
    present = torch.tensor([[bool(n >> bit & 1) for bit in range(3)] for n in range(1, 8)])
    mean = (tokens * present.unsqueeze(-1)).sum(1)
    cosine = torch.nn.functional.cosine_similarity(new(kind, count=3)(tokens, present), mean)
    torch.testing.assert_close(cosine, torch.ones(7), atol=1e-5, rtol=0)


def test_attention_starts_from_the_mean_of_normalised_features() -> None:
    tokens, present = torch.randn(5, 4, 8), torch.ones(5, 4, dtype=torch.bool)
    normalised = torch.nn.functional.layer_norm(tokens, (8,))
    torch.testing.assert_close(new("attention")(tokens, present), normalised.mean(1), atol=1e-4, rtol=1e-4)


def test_attention_is_that_of_the_paper() -> None:
    """Eq. 2-4 with PyTorch's own encoder layer, normalised after each branch, and a mean over what is present."""
    fusion = trained("attention")
    assert isinstance(fusion, AttentionFusion)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu", batch_first=True)
    ours = {name: p.detach() for name, p in fusion.named_parameters()}
    names = {
        "self_attn.in_proj_": "qkv.",
        "self_attn.out_proj.": "out.",
        "norm1.": "attention_norm.",
        "linear1.": "ffn.0.",
        "linear2.": "ffn.2.",
        "norm2.": "ffn_norm.",
    }
    layer.load_state_dict({a + end: ours[b + end] for a, b in names.items() for end in ("weight", "bias")})
    tokens, present = torch.randn(5, 4, 8), torch.rand(5, 4) > 0.3
    present[:, 0] = True
    weight = present.unsqueeze(-1).float()
    expected = (layer(tokens, src_key_padding_mask=~present) * weight).sum(1) / weight.sum(1)
    torch.testing.assert_close(fusion(tokens, present), expected, atol=1e-5, rtol=1e-5)


def test_attention_pooling_by_hand() -> None:
    fusion, tokens = trained("attention-pool"), torch.randn(4, 8)
    weight, bias, query = (dict(fusion.named_parameters())[n] for n in ("key.weight", "key.bias", "query_D"))
    scores = torch.stack([torch.tanh(weight @ h + bias) @ query for h in tokens])
    expected = torch.softmax(scores, 0) @ tokens
    assert scores.std() > 0.1
    torch.testing.assert_close(fusion(tokens[None], torch.ones(1, 4, dtype=torch.bool))[0], expected)


def test_without_its_query_cross_attention_still_listens_to_the_others() -> None:
    fusion, tokens = trained("cross-attention"), torch.randn(1, 4, 8)
    assert isinstance(fusion, CrossAttentionFusion)
    known = torch.tensor([[False, True, True, True]])
    without = fusion(tokens, known)
    asked = tokens.clone()
    asked[:, 0] = fusion.absent_D
    # The same question, but its asker counts for one feature in four.
    expected = (fusion(asked, torch.ones(1, 4, dtype=torch.bool)) * 4 - fusion.absent_D) / 3
    torch.testing.assert_close(without, expected)


def test_a_query_alone_is_itself() -> None:
    fusion, tokens = trained("cross-attention"), torch.randn(2, 4, 8)
    torch.testing.assert_close(fusion(tokens, torch.tensor([[True, False, False, False]] * 2)), tokens[:, 0])
