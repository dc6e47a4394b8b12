"""Kinds of user towers: what each computes, by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from rf_platform.errors import ConfigError
from rf_training.model.blocks import TOWERS, BlockSize, Sight, make_block
from rf_training.model.blocks.attentive_filter import AttentiveFilterBlock
from rf_training.model.blocks.filter import FilterBlock
from rf_training.model.blocks.hstu import HstuBlock
from rf_training.model.blocks.transformer import TransformerBlock
from rf_training.model.config import ModelConfig
from rf_training.model.user_tower import UserTower, log_seconds

SIZE = BlockSize(dim=4, heads=2, ffn=2, dropout=0.0, places=5)


@pytest.mark.parametrize("kind", TOWERS)
def test_every_kind_starts_by_passing_its_input_on(kind: str) -> None:
    torch.manual_seed(0)
    block, x = (
        make_block(kind, BlockSize(dim=32, heads=2, ffn=4, dropout=0.2, places=51)).eval(),
        torch.randn(2, 10, 32),
    )
    assert (block(x, Sight.causal(10)) - x).abs().mean() < 0.2


def test_a_filter_adds_up_the_past_by_its_taps() -> None:
    block = FilterBlock(SIZE)
    x = torch.randn(1, 3, 4)
    found = block.mix(x, x, Sight.causal(3))
    for place in range(3):
        expected = sum(block.kernel[back] * x[0, place - back] for back in range(place + 1))
        torch.testing.assert_close(found[0, place], expected)


def test_filters_start_as_averages_with_memories_of_several_lengths() -> None:
    kernel = FilterBlock(SIZE).kernel
    torch.testing.assert_close(kernel.sum(0), torch.ones(4))
    torch.testing.assert_close(kernel[1, 0] / kernel[0, 0], torch.tensor(math.exp(-1)))
    assert (kernel[-1].diff() > 0).all()


def test_a_place_that_asks_by_another_value_is_filtered_with_it() -> None:
    block, x, asking = FilterBlock(SIZE), torch.randn(1, 4, 4), torch.randn(1, 1, 4)
    place = torch.tensor([[2]])
    found = block.mix(asking, x, Sight(place, torch.arange(4)[None], (torch.arange(4) <= 2)[None, None, None]))
    replaced = torch.cat([x[:, :2], asking, x[:, 3:]], dim=1)
    torch.testing.assert_close(found[:, 0], block.mix(replaced, replaced, Sight.causal(4))[:, 2])


def test_attention_and_filters_are_added_up() -> None:
    block, x = AttentiveFilterBlock(SIZE), torch.randn(2, 3, 4)
    attention, filters = TransformerBlock(SIZE), FilterBlock(SIZE)
    attention.load_state_dict(block.state_dict(), strict=False)
    filters.load_state_dict(block.state_dict(), strict=False)
    sight = Sight.causal(3)
    torch.testing.assert_close(block.mix(x, x, sight), attention.mix(x, x, sight) + filters.mix(x, x, sight))
    names = {name for name, _ in block.named_parameters()}
    assert names == {name for other in (attention, filters) for name, _ in other.named_parameters()}


def test_pointwise_attention_by_hand() -> None:
    """SiLU(q·k + bias) / places seen, normalised, gated: without softmax."""
    torch.manual_seed(0)
    block = HstuBlock(SIZE._replace(heads=1))
    with torch.no_grad():
        block.position_bias.copy_(torch.tensor([0.5, -1.0, 2.0, 0.0, 0.0]))
        block.time_bias[3], block.time_bias[4] = 1.0, 3.0
    x, log = torch.randn(3, 4), torch.tensor([[0.0, 0, 0], [3.0, 0, 0], [4.0, 3.5, 0]])
    u, q = F.silu(block.gate_query(x)).chunk(2, dim=1)
    k, v = F.silu(block.key_value(x)).chunk(2, dim=1)
    # Distance 2 and a log of 4 (bias 3), distance 1 and a log of 3.5 (half-way between 1 and 3), itself.
    weights = F.silu(k @ q[2] + torch.tensor([2.0 + 3.0, -1.0 + 2.0, 0.5])) / 3
    expected = block.mixed_norm(weights @ v) * u[2]
    found = block.mix(x[None], x[None], Sight.causal(3, None, log[None]))[0, 2]
    torch.testing.assert_close(found, expected)


def test_times_of_a_century_and_of_the_future_are_bounded() -> None:
    log = log_seconds(torch.tensor([[0.0, 1.0, 9e9]], dtype=torch.float64))[0]
    assert log[0].tolist() == [0, 0, 0]
    torch.testing.assert_close(log[1:, 0], torch.tensor([math.log(2), math.log(9e9 + 1)]))
    block, x = HstuBlock(SIZE), torch.randn(1, 3, 4)
    assert block.mix(x, x, Sight.causal(3, None, log[None])).isfinite().all()


@pytest.mark.parametrize("layout", ["cls", "prefix", "side"])
def test_only_times_between_interactions_that_are_seen_count(layout: str) -> None:
    """The same time added to all changes nothing, one interval changes every position that has both its ends behind it."""
    torch.manual_seed(0)
    config = ModelConfig(dim=8, max_history=4, dropout=0, tower="hstu", layout=layout)  # type: ignore[arg-type]
    tower = UserTower(config).eval()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    z, profile, reads = torch.randn(1, 4, 8), torch.randn(1, 5, 8), torch.tensor([[-1, 0, 1, 2, 3]])
    seconds = torch.tensor([[0.0, 60, 3600, 86400]], dtype=torch.float64)

    def read(at: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = tower(z, torch.tensor([4]), profile, reads, at)[0]
        return found

    base = read(seconds)
    torch.testing.assert_close(read(seconds + 1e9), base, atol=1e-5, rtol=1e-5)
    later = read(seconds + torch.tensor([0, 0, 500, 500], dtype=torch.float64))
    assert ((later - base).abs().amax(1) > 1e-4).tolist() == [False, False, False, True, True]


def test_an_unknown_tower_and_one_that_cannot_read_the_layout_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.tower='lstm' must be 'transformer', 'hstu', 'filter' or"):
        ModelConfig(tower="lstm")
    with pytest.raises(ConfigError, match=r"'filter' has no form for model.layout='cls': choose 'prefix' or 'side'"):
        ModelConfig(tower="filter", layout="cls")
