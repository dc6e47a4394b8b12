"""Pointwise attention with relative positions and times (HSTU).

Shapes: B users, Q tokens that are computed, T tokens that are seen, D width, H heads, E width of a head, P distances, K knots.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_training.model.blocks.block import Block, BlockSize, Sight

TIME_KNOTS = 23
"""Knots of the bias by time, one at each whole log(1 + seconds): the last is at 113 years."""


class HstuBlock(Block):
    """Hierarchical sequential transduction unit (Zhai et al., 2024, "Actions speak louder than words", Eq. 1-3).

    Attention weighs by SiLU(q·k + bias) and takes no softmax over the tokens seen, so that how many of them agree is kept; its
    result is normalised and gated by the token itself, which takes the place of a feed-forward layer. The bias is learned: a
    number for each head and distance in places, and, where interactions have times, a piecewise linear function of
    log(1 + seconds) between them. The paper has buckets of time; between knots, rounding of times changes next to nothing.
    """

    reads_time: ClassVar[bool] = True
    feeds_forward: ClassVar[bool] = False

    def make_mixer(self, size: BlockSize) -> None:
        """Make the projections, which all go through SiLU, and the biases, which start at zero."""
        self.heads = size.heads
        self.gate_query = nn.Linear(size.dim, 2 * size.dim)
        self.key_value = nn.Linear(size.dim, 2 * size.dim)
        self.mixed_norm = nn.LayerNorm(size.dim)
        self.position_bias = nn.Parameter(torch.zeros(size.heads * size.places))
        self.time_bias = nn.Parameter(torch.zeros(TIME_KNOTS))

    @property
    def bias_by_distance(self) -> Tensor:
        """The bias of each head by distance [H, P], 0 first."""
        return self.position_bias.view(self.heads, -1)

    def mix(self, normed_BQD: Tensor, normed_BTD: Tensor, sight: Sight) -> Tensor:
        """Return the gated sum over the tokens seen [B, Q, D]."""
        (B, Q, D), T, H = normed_BQD.shape, normed_BTD.shape[1], self.heads
        u_BQD, q_BQD = F.silu(self.gate_query(normed_BQD)).chunk(2, dim=-1)
        k_BTD, v_BTD = F.silu(self.key_value(normed_BTD)).chunk(2, dim=-1)
        q, k, v = (x.view(B, n, H, D // H).transpose(1, 2) for x, n in ((q_BQD, Q), (k_BTD, T), (v_BTD, T)))
        share_BQT = sight.visible / (sight.place_BQ + 1).unsqueeze(2)
        mixed_BHQE = pointwise_attention(q, k, v, self._bias(sight), share_BQT.unsqueeze(1))
        out_BQD: Tensor = self.mixed_norm(mixed_BHQE.transpose(1, 2).reshape(B, Q, D)) * u_BQD
        return out_BQD

    def _bias(self, sight: Sight) -> Tensor:
        """Return the biases, broadcastable to [B, H, Q, T]."""
        distance_BQT = (sight.place_BQ[:, :, None] - sight.place_BT[:, None, :]).clamp(min=0)
        bias = self.bias_by_distance.t()[distance_BQT].permute(0, 3, 1, 2)
        if sight.log_seconds_BQT is None:
            return bias
        at_BQT = sight.log_seconds_BQT.clamp(max=TIME_KNOTS - 1.001)
        knot_BQT = at_BQT.long()
        low, high = (F.embedding(knot_BQT + step, self.time_bias[:, None]).squeeze(-1) for step in (0, 1))
        return bias + torch.lerp(low, high, at_BQT - knot_BQT).unsqueeze(1)


def pointwise_attention(q_BHQE: Tensor, k_BHTE: Tensor, v_BHTE: Tensor, bias: Tensor, share: Tensor) -> Tensor:
    """Return the sum of values [B, H, Q, E], each weighed by SiLU(q·k + bias) and its share.

    On a CPU in float32, as softmax attention is.
    """
    if q_BHQE.device.type != "cpu":
        return _weighed(q_BHQE, k_BHTE, v_BHTE, bias, share)
    with torch.autocast("cpu", enabled=False):
        return _weighed(q_BHQE.float(), k_BHTE.float(), v_BHTE.float(), bias, share)


def _weighed(q_BHQE: Tensor, k_BHTE: Tensor, v_BHTE: Tensor, bias: Tensor, share: Tensor) -> Tensor:
    weight_BHQT = F.silu(q_BHQE @ k_BHTE.transpose(2, 3) + bias) * share
    return weight_BHQT.to(v_BHTE.dtype) @ v_BHTE
