"""A transformer block as it is served: the arithmetic of training's block in fewer, larger operations.

A request alone has some fifty tokens of 64 numbers, which is less work than calling the operations: modules, dropout that does
nothing and separate projections of queries, keys and values cost more than their products. Weights are laid out once for
products of all tokens of a batch as one matrix.

Shapes: B requests, T tokens of a request, R = B * T rows, D width, H heads, E = D / H.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from rf_training.model.transformer import Block


class FrozenBlock:
    """Computes what a causal :class:`Block` without a mask computes, from weights that no longer change."""

    @torch.inference_mode()
    def __init__(self, block: Block) -> None:
        up, down = block.ffn[0], block.ffn[-1]
        assert isinstance(up, torch.nn.Linear)
        assert isinstance(down, torch.nn.Linear)
        self._heads = block.heads
        self._norm, self._ffn_norm = FrozenNorm(block.attention_norm), FrozenNorm(block.ffn_norm)
        self._query, self._key_value = linear_weights(block.query), linear_weights(block.key_value)
        self._all = tuple(torch.cat(pair, dim=-1) for pair in zip(self._query, self._key_value, strict=True))
        self._out, self._up, self._down = linear_weights(block.out), linear_weights(up), linear_weights(down)

    def every(self, x_RD: Tensor, T: int) -> Tensor:
        """Return what the block makes of all tokens [R, D]; each attends to those before it in its request, and to itself."""
        R, D = x_RD.shape
        bias, weight = self._all
        qkv = torch.addmm(bias, self._norm(x_RD), weight).view(R // T, T, 3, self._heads, D // self._heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        mixed_BHTE = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self._rest(x_RD, mixed_BHTE.transpose(1, 2).reshape(R, D))

    def last(self, x_RD: Tensor, T: int, row_B: Tensor, seen_BT: Tensor | None) -> Tensor:
        """Return what the block makes of one token of each request [B, D].

        Args:
            x_RD: all tokens.
            T: tokens of a request.
            row_B: rows that are computed.
            seen_BT: bool, the tokens each of them attends to; None for all.
        """
        B, D = len(row_B), x_RD.shape[1]
        normed_RD = self._norm(x_RD)
        bias, weight = self._key_value
        k, v = torch.addmm(bias, normed_RD, weight).view(B, T, 2, self._heads, D // self._heads).permute(2, 0, 3, 1, 4)
        bias, weight = self._query
        q = torch.addmm(bias, normed_RD.index_select(0, row_B), weight).view(B, self._heads, 1, D // self._heads)
        mask = None if seen_BT is None else seen_BT[:, None, None, :]
        mixed_BHQE = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self._rest(x_RD.index_select(0, row_B), mixed_BHQE.reshape(B, D))

    def _rest(self, x_RD: Tensor, mixed_RD: Tensor) -> Tensor:
        """Return the block's output from its input and what attention gave."""
        bias, weight = self._out
        x_RD = torch.addmm(bias, mixed_RD, weight).add_(x_RD)
        bias, weight = self._up
        hidden = F.gelu(torch.addmm(bias, self._ffn_norm(x_RD), weight))
        bias, weight = self._down
        return torch.addmm(bias, hidden, weight).add_(x_RD)


class FrozenNorm:
    """A layer norm without the calls of a module."""

    def __init__(self, norm: torch.nn.LayerNorm) -> None:
        self._shape, self._eps = norm.normalized_shape, norm.eps
        self._weight, self._bias = norm.weight.detach(), norm.bias.detach()

    def __call__(self, x_RD: Tensor) -> Tensor:
        """Return the normalised rows."""
        return F.layer_norm(x_RD, self._shape, self._weight, self._bias, self._eps)


def linear_weights(layer: torch.nn.Linear) -> tuple[Tensor, Tensor]:
    """Return bias and weight [in, out] as :func:`torch.addmm` takes them."""
    return layer.bias.detach(), layer.weight.detach().t().contiguous()
