"""Graph of the user tower for ONNX Runtime: the blocks as they are served.

A request alone has some fifty tokens of 64 numbers, which is less work than calling forty operations from Python: here they
are one call, and the last block computes the one position that is read. Each method is the served form of a part of
:class:`UserTower` or :class:`Block`; how a kind of block mixes tokens is in ``blocks.py``.

Shapes: B requests, V interactions of all requests, S places of a request, D width, W another width.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from rf_training.model.blocks import Block
from rf_training.model.served.blocks import BlockForm
from rf_training.model.served.onnx_graph import CONTRIB, OnnxGraph
from rf_training.model.user_tower import UserTower


class TowerGraph(OnnxGraph):
    """Graph with the parts of the user tower (Eq. 8, R7, R8).

    Sums, biases and the normalisation behind them are one operator: by themselves they would take a third of the time. It finds
    the variance in one pass, which is exact around zero only. What goes from block to block is read through normalisations,
    to which its mean over D is nothing: so all that is added to it has its mean taken out, where it can be in the weights.
    """

    def read(
        self, tower: UserTower, form: BlockForm, x_BSD: str, normed_BSD: str, p_BD: str, goal_BD: str | None = None
    ) -> str:
        """Write the tower's output [B, D], from what the first block gets, it normalised, the profiles and the goals' tokens."""
        blocks = blocks_of(tower)
        for block, following in pairwise(blocks):
            x_BSD, normed_BSD = self._rest(block, x_BSD, form.mix(block, normed_BSD), following.attention_norm)
        # Of the last block, the one place that is read.
        last = blocks[-1]
        x_B1D, normed_B1D = self._asking(tower, last, x_BSD, normed_BSD, p_BD, goal_BD)
        _, read_B1D = self._rest(last, x_B1D, form.mix_last(last, normed_B1D, normed_BSD), tower.norm)
        read_BD = self("Squeeze", read_B1D, self.indices_of(1))
        return self("Gemm", read_BD, self.weight(tower.project.weight.t()), self.weight(tower.project.bias))

    def product(self, x_BSD: str, weight: Tensor) -> str:
        """Write a layer without bias, of weights [D, W]."""
        return self("MatMul", x_BSD, self.weight(weight.t()))

    def sum(self, a_BSD: str, b_BSD: str, norm: nn.LayerNorm, bias: Tensor | None = None) -> tuple[str, str]:
        """Write the sum of two values and a bias, and it normalised; all of mean zero."""
        weights = [self.weight(each) for each in (norm.weight, norm.bias, *([] if bias is None else [bias]))]
        normed_BSD, _, _, sum_BSD = self.split(
            "SkipLayerNormalization", 4, a_BSD, b_BSD, *weights, domain=CONTRIB, epsilon=norm.eps
        )
        return sum_BSD, normed_BSD

    def normed(self, x_VD: str, weight: Tensor, bias: Tensor, eps: float) -> str:
        """Write a value of any mean normalised: as its double, since the operator for sums takes a quarter of the time."""
        centred_VD = self.centred(x_VD)
        weights = self.weight(weight), self.weight(bias)
        return self("SkipLayerNormalization", centred_VD, centred_VD, *weights, domain=CONTRIB, epsilon=4 * eps)

    def centred(self, x_VD: str) -> str:
        """Write a value without its mean over D."""
        return self("Sub", x_VD, self("ReduceMean", x_VD, self.indices_of(-1), keepdims=1))

    def _asking(
        self, tower: UserTower, last: Block, x_BSD: str, normed_BSD: str, p_BD: str, goal_BD: str | None
    ) -> tuple[str, str]:
        """Return what the place that is read asks the last block with [B, 1, D], and it normalised."""
        last_B11 = self.indices("last_B11", "B", 1, 1)
        x_B1D = self("GatherND", x_BSD, last_B11, batch_dims=1)
        added = [] if goal_BD is None else [goal_BD]
        if tower.read_profile is not None:
            one_D, zero_D = torch.ones(tower.norm.normalized_shape), torch.zeros(tower.norm.normalized_shape)
            added.append(self.product(self.normed(p_BD, one_D, zero_D, 1e-5), centred(tower.read_profile.weight)))
        if not added:
            return x_B1D, self("GatherND", normed_BSD, last_B11, batch_dims=1)
        own_BD = self("Add", *added) if len(added) == 2 else added[0]
        return self.sum(x_B1D, self("Unsqueeze", own_BD, self.indices_of(1)), last.attention_norm)

    def _rest(self, block: Block, x_BSD: str, mixed_BSD: str, following: nn.LayerNorm) -> tuple[str, str]:
        """Return a block's output from its input and what it mixed, and it normalised for what follows."""
        out_BSD = self.product(mixed_BSD, centred(block.out.weight))
        if not block.feeds_forward:
            return self.sum(out_BSD, x_BSD, following, centred(block.out.bias))
        up, down = block.ffn[0], block.ffn[-1]
        assert isinstance(up, nn.Linear)
        assert isinstance(down, nn.Linear)
        x_BSD, normed_BSD = self.sum(out_BSD, x_BSD, block.ffn_norm, centred(block.out.bias))
        hidden = self("BiasGelu", self.product(normed_BSD, up.weight), self.weight(up.bias), domain=CONTRIB)
        down_BSD = self.product(hidden, centred(down.weight))
        return self.sum(down_BSD, x_BSD, following, centred(down.bias))


def centred(weight: Tensor) -> Tensor:
    """Return a bias [D], or the weights [D, W] of a layer, such that what it gives has mean zero over D."""
    return weight - weight.mean(0, keepdim=True)


def blocks_of(tower: UserTower) -> Sequence[Block]:
    """Return the blocks of a tower."""
    return cast(Sequence[Block], tower.blocks)
