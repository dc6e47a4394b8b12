"""Tokens of a history, as the attention of a re-ranker reads them, and the layers around that attention.

Shapes: B users, T longest history, S = 1 + T tokens, D width of the towers.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_training.model.dropout import Dropout
from rf_training.rerank.ranker import Histories

EXACT = 16
"""Distances below it have a bucket of their own."""
PER_OCTAVE = 4
"""Buckets each time the distance doubles, beyond."""
BUCKETS = EXACT + 10 * PER_OCTAVE
"""The last bucket begins at 13,778 interactions and has no end: a history may be of any length."""


def buckets(distance: Tensor) -> Tensor:
    """Return the bucket of each distance, 0 to ``BUCKETS - 1``; distances are int64 and not negative."""
    octaves = torch.log2(distance.clamp(min=EXACT) / EXACT)
    beyond = EXACT + (octaves * PER_OCTAVE).long()
    return torch.where(distance < EXACT, distance, beyond).clamp(max=BUCKETS - 1)


def identity(dim: int, bias: bool = True) -> nn.Linear:
    """Return a layer that starts by passing its input on: the space of the items is kept where it is useful."""
    layer = nn.Linear(dim, dim, bias=bias)
    nn.init.eye_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def small(inner: int, outer: int) -> nn.Linear:
    """Return the last layer of a branch that starts close to zero."""
    layer = nn.Linear(inner, outer)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


def silent(inner: int) -> nn.Linear:
    """Return the last layer of a score's correction, which starts at zero; its gradient does not."""
    layer = nn.Linear(inner, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Tokens(NamedTuple):
    """The tokens that are attended to."""

    x_BSD: Tensor
    """A learned token that stands for no interaction, then the interactions, oldest first, then padding."""
    there_BS: Tensor | None
    """bool, False for padding; None where there is none."""

    @property
    def mask(self) -> Tensor | None:
        """Return the mask [B, 1, 1, S] of the tokens an attention may see; None for all."""
        return None if self.there_BS is None else self.there_BS[:, None, None, :]


class HistoryInput(nn.Module):
    """Puts interactions on one scale and tells each how far back it lies, counted from the latest one.

    The first token is there for every user: an empty history has something to attend to, and a query that nothing in the history
    answers need not take from it.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.recency_RD = nn.Parameter(torch.randn(BUCKETS, dim) * 0.02)
        self.nothing_D = nn.Parameter(torch.randn(dim) * 0.02)
        self.dropout = Dropout(dropout)

    def forward(self, histories: Histories) -> Tokens:
        """Return the tokens of the histories."""
        z_BTD, length_B = histories.tokens_BTD, histories.length_B
        B, T, D = z_BTD.shape
        there_BS = None
        if bool((length_B < T).any()):
            there_BT = torch.arange(T, device=z_BTD.device) < length_B[:, None]
            z_BTD = z_BTD.masked_fill(~there_BT[:, :, None], 0.0)  # whatever stands there, also what is no number
            there_BS = F.pad(there_BT, (1, 0), value=True)
            back = (length_B[:, None] - 1 - torch.arange(T, device=z_BTD.device)).clamp(min=0)
        else:
            back = torch.arange(T - 1, -1, -1, device=z_BTD.device)
        x_BTD = direction(z_BTD) + F.embedding(buckets(back), self.recency_RD)
        return Tokens(self.dropout(torch.cat([self.nothing_D.expand(B, 1, D), x_BTD], dim=1)), there_BS)


def direction(x: Tensor) -> Tensor:
    """Return vectors [..., D] with the length sqrt(D): numbers around one, whatever the length was."""
    scaled: Tensor = F.normalize(x, dim=-1) * x.shape[-1] ** 0.5
    return scaled


def to_heads(x_BND: Tensor, heads: int) -> Tensor:
    """Return [B, H, N, D / H]."""
    B, N, D = x_BND.shape
    return x_BND.view(B, N, heads, D // heads).transpose(1, 2)


def from_heads(x_BHNE: Tensor) -> Tensor:
    """Undo :func:`to_heads`."""
    B, H, N, E = x_BHNE.shape
    return x_BHNE.transpose(1, 2).reshape(B, N, H * E)
