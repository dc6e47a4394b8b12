"""Interface of the user tower's blocks.

Shapes: B users, Q tokens that are computed, T tokens that are seen, D width.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from rf_training.model.dropout import Dropout


class BlockSize(NamedTuple):
    """Sizes that a block is made with."""

    dim: int
    """Width of tokens."""
    heads: int
    """Attention heads."""
    ffn: int
    """Hidden width of a feed-forward layer, in multiples of ``dim``."""
    dropout: float
    places: int
    """Most places of a sequence: interactions and what stands beside them."""


@dataclass(frozen=True)
class Sight:
    """Sight of the tokens that are computed: which of the sequence they see, and from how far.

    A token stands at the place that it has in the sequence of one request, so that distances are those of serving wherever a
    training batch lays it out.
    """

    place_BQ: Tensor
    """int64, places of the tokens that are computed; one row where all users' are alike."""
    place_BT: Tensor
    """int64, places of the tokens that are seen."""
    mask: Tensor | None = None
    """bool, broadcastable to [B, heads, Q, T]; None: what is computed is the whole sequence, each token sees itself and those
    before it."""
    log_seconds_BQT: Tensor | None = None
    """log(1 + seconds) from what is seen to what is computed, 0 where it is later; None without times."""

    @classmethod
    def causal(cls, length: int, device: torch.device | None = None, log_seconds_BQT: Tensor | None = None) -> "Sight":
        """Return that of a whole sequence."""
        place_1S = torch.arange(length, device=device)[None]
        return cls(place_1S, place_1S, None, log_seconds_BQT)

    @property
    def visible(self) -> Tensor:
        """Tokens that each one sees: bool [B, Q, T]."""
        if self.mask is None:
            return self.place_BT[:, None, :] <= self.place_BQ[:, :, None]
        return self.mask.squeeze(1)


class Block(nn.Module, ABC):
    """A layer that mixes tokens with those before them, and a feed-forward layer; residual connections, normalised before each.

    Both branches start close to zero: the tower starts by passing its input on, in the space of the items. A kind of block
    says how tokens are mixed. Every kind is causal, and each token can be read as if the sequence ended there.
    """

    reads_time: ClassVar[bool] = False
    """Whether :attr:`Sight.log_seconds_BQT` is read."""
    feeds_forward: ClassVar[bool] = True
    """Whether there is a feed-forward layer."""

    def __init__(self, size: BlockSize) -> None:
        super().__init__()
        dim, self.places = size.dim, size.places
        self.attention_norm = nn.LayerNorm(dim)
        self.make_mixer(size)
        self.out = nn.Linear(dim, dim)
        branches = [self.out]
        if self.feeds_forward:
            self.ffn_norm = nn.LayerNorm(dim)
            last = nn.Linear(size.ffn * dim, dim)
            self.ffn = nn.Sequential(nn.Linear(dim, size.ffn * dim), nn.GELU(), Dropout(size.dropout), last)
            branches.append(last)
        self.dropout = Dropout(size.dropout)
        for branch in branches:
            nn.init.normal_(branch.weight, std=0.02)
            nn.init.zeros_(branch.bias)

    @abstractmethod
    def make_mixer(self, size: BlockSize) -> None:
        """Make the parameters of :meth:`mix`."""

    @abstractmethod
    def mix(self, normed_BQD: Tensor, normed_BTD: Tensor, sight: Sight) -> Tensor:
        """Return what tokens get from those they see [B, Q, D].

        Args:
            normed_BQD: the tokens that are computed, normalised; the same object as ``normed_BTD`` where they are the sequence.
            normed_BTD: the tokens that are seen, normalised.
            sight: which sees which.
        """

    def forward(self, asking_BQD: Tensor, sight: Sight, seen_BTD: Tensor | None = None) -> Tensor:
        """Compute tokens from those they see.

        Args:
            asking_BQD: the tokens that are computed.
            sight: what they see.
            seen_BTD: the tokens seen; default: those that are computed. In the last block only what is read need ask.

        Returns:
            [B, Q, D].
        """
        seen_BTD = asking_BQD if seen_BTD is None else seen_BTD
        normed_BTD = self.attention_norm(seen_BTD)
        normed_BQD = normed_BTD if seen_BTD is asking_BQD else self.attention_norm(asking_BQD)
        x_BQD: Tensor = asking_BQD + self.dropout(self.out(self.mix(normed_BQD, normed_BTD, sight)))
        if not self.feeds_forward:
            return x_BQD
        out: Tensor = x_BQD + self.dropout(self.ffn(self.ffn_norm(x_BQD)))
        return out
