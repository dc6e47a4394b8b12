"""LIME: what is the user's, what is the item's, and the mask of LIME-XOR."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rf_training.rerank import RerankConfig, make_ranker
from rf_training.rerank.history import BUCKETS, EXACT, buckets
from rf_training.rerank.lime import Lime, LimeMha, LimeUser, LimeXor, LinkAttention, XorBlock
from rf_training.rerank.ranker import Histories
from rf_training.rerank.target_attention import HstuBlock

B, L, S, D, H = 2, 3, 7, 16, 2


def moved(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)


def masked_attention(attention: LinkAttention, x: Tensor, mask: Tensor) -> Tensor:
    """Plain multi-head attention of all tokens [B, X, D] over all tokens, under a mask, with the same weights."""
    q, k, v = (
        layer(x).view(B, -1, H, D // H).transpose(1, 2) for layer in (attention.query, attention.key, attention.value)
    )
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    out: Tensor = attention.out(mixed.transpose(1, 2).reshape(B, -1, D))
    return out


@pytest.mark.parametrize("padded", [False, True])
def test_two_cross_attentions_are_full_attention_under_the_xor_mask(padded: bool) -> None:
    torch.manual_seed(0)
    block = XorBlock(D, H, dropout=0.0)
    moved(block)
    links, history = torch.randn(B, L, D), torch.randn(B, S, D)
    there = torch.arange(S) < torch.tensor([[S], [4]]) if padded else None
    is_link = torch.arange(L + S) < L
    mask = (is_link[:, None] ^ is_link).expand(B, 1, -1, -1)
    if there is not None:
        mask = mask & F.pad(there, (L, 0), value=True)[:, None, None]
    both = torch.cat([links, history], dim=1)
    expected = both + masked_attention(block.attention, block.norm(both), mask)
    new_links, new_history = block(links, history, there)
    torch.testing.assert_close(new_history, expected[:, L:], atol=1e-5, rtol=1e-5)
    expected_links = expected[:, :L] + block.ffn(block.ffn_norm(expected[:, :L]))
    torch.testing.assert_close(new_links, expected_links, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(block.read(links, history, there), expected_links, atol=1e-5, rtol=1e-5)


def test_in_lime_xor_interactions_reach_each_other_through_links_only() -> None:
    """In one block the history does not mix; in the next one it does."""
    torch.manual_seed(0)
    block = XorBlock(D, H, dropout=0.0)
    moved(block)
    history = torch.randn(1, S, D, requires_grad=True)
    links, once = block(torch.randn(1, L, D), history, None)
    _, twice = block(links, once, None)
    for depth, new in ((1, once), (2, twice)):
        (gradient,) = torch.autograd.grad(new[0, 0].square().sum(), history, retain_graph=True)
        assert (gradient[0].abs().sum(1) > 0).tolist() == [True] + [depth == 2] * (S - 1)


def test_every_block_of_lime_xor_counts() -> None:
    torch.manual_seed(0)
    ranker = LimeXor(RerankConfig(kind="lime-xor", links=L, blocks=3), D).eval()
    moved(ranker)
    of = Histories(tokens_BTD=torch.randn(1, 5, D), length_B=torch.tensor([5]), user_BD=torch.randn(1, D))
    whole = ranker.user_state(of).table_BWF
    for block in ranker.blocks:
        weight = block.attention.value.weight  # type: ignore[union-attr]
        kept = weight.detach().clone()  # type: ignore[operator]
        with torch.no_grad():
            weight.mul_(-1)  # type: ignore[operator]
            assert (ranker.user_state(of).table_BWF - whole).abs().max() > 1e-2
            weight.copy_(kept)  # type: ignore[operator]


@pytest.mark.parametrize("weights", ["softmax", "silu"])
def test_the_link_weights_of_an_item_are_those_of_the_global_links(weights: str) -> None:
    """The user's part in the links (their personalisation, their history) moves no number that is kept of an item."""
    torch.manual_seed(0)
    ranker = LimeMha(RerankConfig(links=L, heads=H, weights=weights, width=4), D)  # type: ignore[arg-type]
    moved(ranker)
    rows = ranker.item_state(torch.randn(5, D))
    parts = {name.partition(".")[0] for name, _ in ranker.named_parameters()}
    moving = {
        part
        for part in parts
        if any(
            gradient is not None and bool(gradient.any())
            for gradient in torch.autograd.grad(
                rows.square().sum(),
                [p for name, p in ranker.named_parameters() if name.partition(".")[0] == part],
                retain_graph=True,
                allow_unused=True,
            )
        )
    }
    assert moving == {"links_LD", "item_mlp", "item_query", "item_extra"}
    weight = rows[:, : L * H].view(5, L, H)
    if weights == "softmax":
        torch.testing.assert_close(weight.sum(1), torch.ones(5, H))
    else:
        assert (weight < 0).any()
        assert (weight.sum(1) - 1).abs().max() > 1e-2


def test_the_first_layer_over_the_weighted_sum_of_links_is_what_the_user_state_holds() -> None:
    """Score one user's candidates by the definition: attend to the personalised links, then the scorer."""
    torch.manual_seed(0)
    ranker = LimeMha(RerankConfig(links=L, heads=H, width=4, hidden=6, dropout=0.0), D).eval()
    moved(ranker)
    of = Histories(tokens_BTD=torch.randn(1, 5, D), length_B=torch.tensor([5]), user_BD=torch.randn(1, D))
    items, dot = torch.randn(9, D), torch.randn(9)
    rows, u = ranker.item_state(items), F.normalize(of.user_BD[0], dim=0) * D**0.5
    mixed = ranker.mix_out(F.silu(ranker.mix_links(ranker.links_LD) + ranker.mix_user(u)))
    personal = ranker.personal_norm(ranker.personal_links((ranker.links_LD + mixed)[None], ranker.history(of))[0])
    weight, extra = rows[:, : L * H].view(9, L, H), rows[:, L * H :]
    first = ranker.fold_links.weight.view(H, 10, D)
    inputs = ranker.fold_user(u) + extra @ ranker.extra_EF
    for head in range(H):
        attended = weight[:, :, head] @ personal  # [9, D]
        bias = ranker.fold_links.bias.view(H, 10)[head]
        inputs = inputs + attended @ first[head].T + weight[:, :, head].sum(1, keepdim=True) * bias
    hidden = inputs[:, 4:] + (inputs[:, :4] * extra) @ ranker.product_EG + dot[:, None] * ranker.dot_G
    expected = dot * ranker.log_scale.exp() + ranker.score(F.gelu(hidden))[:, 0]
    user = ranker.user_state(of)
    assert isinstance(user, LimeUser)
    torch.testing.assert_close(ranker(user, rows[None], dot[None])[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["lime-mha", "lime-xor"])
def test_link_attention_is_on_what_is_there(kind: str) -> None:
    """What the links attend to sums to at most one; the rest is on the token of no interaction."""
    torch.manual_seed(0)
    ranker = make_ranker(RerankConfig(kind=kind, links=L, heads=H, width=4), D).eval()
    moved(ranker)
    assert isinstance(ranker, Lime)
    of = Histories(tokens_BTD=torch.randn(3, 5, D), length_B=torch.tensor([5, 2, 0]), user_BD=torch.randn(3, D))
    found = ranker.link_attention(of)
    assert found.shape == (3, H, L, 5)
    assert (found > 0).any(2).any(1).tolist() == [[True] * 5, [True] * 2 + [False] * 3, [False] * 5]
    total = found.sum(3)
    assert ((total[:2] > 0) & (total[:2] < 1 + 1e-6)).all()
    assert total[:2].min() < 0.99
    rows = ranker.item_state(torch.randn(4, D))
    torch.testing.assert_close(ranker.link_weights(rows).sum(1), torch.ones(4, H))


def test_link_attention_is_the_mean_that_links_read() -> None:
    torch.manual_seed(0)
    attention = LinkAttention(D, H)
    moved(attention)
    links, history, there = torch.randn(B, L, D), torch.randn(B, S, D), torch.arange(S) < torch.tensor([[S], [4]])
    mean = attention.weights(links, history, there) @ attention.value(history).view(B, S, H, D // H).transpose(1, 2)
    expected = attention.out(mean.transpose(1, 2).reshape(B, L, D))
    torch.testing.assert_close(attention.read(links, history, there), expected, atol=1e-5, rtol=1e-5)


def test_a_link_starts_by_reading_what_lies_near_it() -> None:
    attention = LinkAttention(D, 1)
    near, far = torch.randn(D), torch.randn(D)
    history = torch.stack([near, far])[None] * 10
    read = attention.read(near[None, None] * 10, history, None)[0, 0]
    torch.testing.assert_close(read, near * 10, atol=1e-2, rtol=1e-2)


def test_hstu_is_causal_pointwise_attention_over_the_number_of_tokens_seen() -> None:
    torch.manual_seed(0)
    block = HstuBlock(D, H, dropout=0.0)
    moved(block)
    x = torch.randn(B, 40, D)
    gate, q, k, v = F.silu(block.project(block.norm(x))).chunk(4, dim=-1)
    q, k, v = (each.view(B, 40, H, D // H).transpose(1, 2) for each in (q, k, v))
    place = torch.arange(40)
    distance = block.distance_RH[buckets((place[:, None] - place).clamp(min=0))].permute(2, 0, 1)
    weight = F.silu(q @ k.transpose(2, 3) * (D // H) ** -0.5 + distance).tril()
    mixed = (weight @ v / torch.arange(1, 41)[:, None]).transpose(1, 2).reshape(B, 40, D)
    expected = x + block.out(block.out_norm(mixed) * gate)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)


def test_buckets_of_recency_are_exact_at_first_and_never_end() -> None:
    place = torch.arange(1 << 15)
    found = buckets(place)
    assert found[: EXACT + 1].tolist() == list(range(EXACT + 1))
    assert ((found[1:] - found[:-1]) >= 0).all()
    assert set(found.tolist()) == set(range(BUCKETS))
    assert buckets(torch.tensor([13_777, 13_778, 1 << 40])).tolist() == [BUCKETS - 2, BUCKETS - 1, BUCKETS - 1]
