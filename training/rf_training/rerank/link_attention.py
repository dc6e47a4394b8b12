"""Attention between links and a history, neither of which attends to itself.

Shapes: B users, S tokens of a history, L links, D width, H heads, E = D / H, P = H * L.
"""

import torch
from torch import Tensor, nn

from rf_training.rerank.layers import identity


class LinkAttention(nn.Module):
    """Multi-head softmax attention whose projections are all done on the side of the links.

    The product of a projected query and a projected key is that of the token itself with a query carried through both matrices.
    There are few links, so a token of the history costs 2 * P * D multiplications in either direction, in place of 2 * D * D for
    its projections and 2 * L * D for the attention. All projections start at identity: a link reads what lies near it.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = identity(dim, bias=False), identity(dim, bias=False)
        self.value, self.out = identity(dim), identity(dim)

    def read(self, links_BLD: Tensor, x_BSD: Tensor, there_BS: Tensor | None) -> Tensor:
        """Return what each link attends to in the history [B, L, D].

        Args:
            links_BLD: the links.
            x_BSD: the history.
            there_BS: bool, False for padding, True for at least one token of each user; None where there is no padding.
        """
        (B, L, D), H = links_BLD.shape, self.heads
        weight_BPS = self._weights(links_BLD, x_BSD, there_BS)
        mean_BHLD = (weight_BPS @ x_BSD).view(B, H, L, D)
        mixed_BHLE = mean_BHLD @ self.value.weight.view(H, D // H, D).transpose(1, 2)
        found_BLD: Tensor = self.out(mixed_BHLE.transpose(1, 2).reshape(B, L, D) + self.value.bias)
        return found_BLD

    def weights(self, links_BLD: Tensor, x_BSD: Tensor, there_BS: Tensor | None) -> Tensor:
        """Return how far each link attends to each token in :meth:`read` [B, H, L, S]."""
        B, L, _ = links_BLD.shape
        return self._weights(links_BLD, x_BSD, there_BS).view(B, self.heads, L, -1)

    def _weights(self, links_BLD: Tensor, x_BSD: Tensor, there_BS: Tensor | None) -> Tensor:
        B, L, D = links_BLD.shape
        H, E = self.heads, D // self.heads
        q_BHLE = self.query(links_BLD).view(B, L, H, E).transpose(1, 2) * E**-0.5
        asked_BPD = (q_BHLE @ self.key.weight.view(H, E, D)).flatten(1, 2)
        logit_BPS: Tensor = asked_BPD @ x_BSD.transpose(1, 2)
        if there_BS is not None:
            logit_BPS = logit_BPS.masked_fill(~there_BS[:, None], -torch.inf)
        return logit_BPS.softmax(-1)

    def write(self, x_BSD: Tensor, onto_BSD: Tensor, links_BLD: Tensor) -> Tensor:
        """Return the history with what its tokens attend to among the links added [B, S, D].

        Args:
            x_BSD: the history, as it asks.
            onto_BSD: the history, as it is added to.
            links_BLD: the links.
        """
        B, L, D = links_BLD.shape
        S, H, E = x_BSD.shape[1], self.heads, D // self.heads
        k_BHLE = self.key(links_BLD).view(B, L, H, E).transpose(1, 2) * E**-0.5
        v_BHLE = self.value(links_BLD).view(B, L, H, E).transpose(1, 2)
        asked_BPD = (k_BHLE @ self.query.weight.view(H, E, D)).flatten(1, 2)
        given_BPD = (v_BHLE @ self.out.weight.view(D, H, E).permute(1, 2, 0)).flatten(1, 2)
        given_BPD = given_BPD + self.out.bias / H  # the weights of every head sum to one
        logit_BSP = x_BSD @ asked_BPD.transpose(1, 2)
        weight_BSP = logit_BSP.view(B, S, H, L).softmax(-1).view(B, S, H * L)
        return torch.baddbmm(onto_BSD, weight_BSP, given_BPD)
