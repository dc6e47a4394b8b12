"""User tower: a causal transformer of pre-norm blocks over interaction tokens and the profile.

Shapes: B users, T interactions (padded on the right), S = 1 + T places, R positions read, D width; in a block, T tokens, Q tokens
that are computed, H heads, E width of a head.
A read position r in -1..T-1 means "after interaction r": -1 sees the profile only, T-1 everything.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_training.model.config import ModelConfig
from rf_training.model.dropout import Dropout


class Block(nn.Module):
    """Attention and feed-forward with residual connections, normalised before each.

    Both branches start close to zero: the tower starts by passing its input on, in the space of the items.
    """

    def __init__(self, dim: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.ffn_norm = nn.LayerNorm(dim)
        last = nn.Linear(ffn * dim, dim)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn * dim), nn.GELU(), Dropout(dropout), last)
        self.dropout = Dropout(dropout)
        for branch in (self.out, last):
            nn.init.normal_(branch.weight, std=0.02)
            nn.init.zeros_(branch.bias)

    def forward(self, asking_BQD: Tensor, mask: Tensor | None, seen_BTD: Tensor | None = None) -> Tensor:
        """Compute tokens that attend to all tokens that ``mask`` allows.

        Args:
            asking_BQD: the tokens that are computed.
            mask: bool, broadcastable to [B, H, Q, T]; None means causal, where tokens attend to each other.
            seen_BTD: the tokens attended to; default: those that are computed. In the last block only what is read need ask.

        Returns:
            [B, Q, D].
        """
        seen_BTD = asking_BQD if seen_BTD is None else seen_BTD
        (B, Q, D), T = asking_BQD.shape, seen_BTD.shape[1]
        normed_BTD = self.attention_norm(seen_BTD)
        normed_BQD = normed_BTD if seen_BTD is asking_BQD else self.attention_norm(asking_BQD)
        q = self.query(normed_BQD).view(B, Q, self.heads, D // self.heads).transpose(1, 2)
        k, v = self.key_value(normed_BTD).view(B, T, 2, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        mixed = attention(q, k, v, mask)
        x_BQD = asking_BQD + self.dropout(self.out(mixed.transpose(1, 2).reshape(B, Q, D)))
        out: Tensor = x_BQD + self.dropout(self.ffn(self.ffn_norm(x_BQD)))
        return out


def attention(q_BHQE: Tensor, k_BHTE: Tensor, v_BHTE: Tensor, mask: Tensor | None) -> Tensor:
    """Return the attended values [B, H, Q, E], causal without a mask.

    On a CPU in float32, where attention is slower in bfloat16; elsewhere in the format of the products, as the fast kernels
    demand it.
    """
    if q_BHQE.device.type != "cpu":
        return F.scaled_dot_product_attention(q_BHQE, k_BHTE, v_BHTE, attn_mask=mask, is_causal=mask is None)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(
            q_BHQE.float(), k_BHTE.float(), v_BHTE.float(), attn_mask=mask, is_causal=mask is None
        )


class UserTower(nn.Module):
    """Turns a history and a profile into a query vector, at one position or at all of them (R7, R8).

    Layouts: ``cls`` is [z_1..z_T, SEP, profile, CLS]; ``prefix`` is [profile, z_1..z_T]; ``side`` is [CLS, z_1..z_T] with the
    profile concatenated to every token and the pair projected back to D, starting from the token alone.

    A user's profile changes while the history grows. In ``cls`` every position read has its own. In the other two all tokens
    share one, the oldest, which no position is too early to know; so each position read gets its own beside it, normalised,
    projected and added before it asks the last block. The projection starts at zero, and nothing of it reaches another position.

    Positions are counted from the end of the history, so that the latest interaction always has the same one.

    Requests are answered by the same tower as a graph, :mod:`rf_training.model.served`: a change here is a change there.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layout = config.layout
        dim = config.dim
        self.position_TD = nn.Parameter(torch.randn(config.max_history, dim) * 0.02)
        self.sep_D = nn.Parameter(torch.randn(dim) * 0.02)
        self.cls_D = nn.Parameter(torch.randn(dim) * 0.02)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(dim, config.heads, config.ffn, config.dropout) for _ in range(config.layers))
        self.input_norm = nn.LayerNorm(dim)  # item vectors come in any length, positions do not
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, dim)
        nn.init.eye_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        if self.layout == "side":
            # The two blocks of the matrix that projects the concatenation [token; profile].
            self.side_token = nn.Linear(dim, dim)
            self.side_profile = nn.Linear(dim, dim, bias=False)
            nn.init.eye_(self.side_token.weight)
            for start in (self.side_token.bias, self.side_profile.weight):
                nn.init.zeros_(start)
        self.read_profile = None if self.layout == "cls" else nn.Linear(dim, dim, bias=False)
        if self.read_profile is not None:
            nn.init.zeros_(self.read_profile.weight)

    def forward(self, z_BTD: Tensor, length_B: Tensor, profile_BRD: Tensor, read_BR: Tensor) -> Tensor:
        """Return the query vectors [B, R, D], not normalised.

        Args:
            z_BTD: interaction tokens, padded on the right.
            length_B: interactions of each user.
            profile_BRD: the profile as it was known at each position read, oldest first.
            read_BR: positions to read, -1..T-1.
        """
        if self.layout == "cls":
            read_BRD = self._read_cls(self._placed(z_BTD, length_B), profile_BRD, read_BR)
        else:
            read_BRD = self._read_in_place(self.enter(z_BTD, length_B, profile_BRD[:, :1]), profile_BRD, read_BR)
        out: Tensor = self.project(self.norm(read_BRD))
        return out

    def enter(self, z_BTD: Tensor, length_B: Tensor, profile_B1D: Tensor) -> Tensor:
        """Return what the first block gets [B, S, D] in the layouts ``prefix`` and ``side``: position r stands at r + 1."""
        z_BTD = self._placed(z_BTD, length_B)
        if self.layout == "side":
            return self._beside(z_BTD, profile_B1D)
        return torch.cat([profile_B1D, z_BTD], dim=1)

    def _placed(self, z_BTD: Tensor, length_B: Tensor) -> Tensor:
        """Normalise the interactions and add their positions, counted from the end."""
        T = z_BTD.shape[1]
        from_end_BT = (length_B[:, None] - 1 - torch.arange(T, device=z_BTD.device)).clamp(min=0)
        placed_BTD: Tensor = self.input_norm(z_BTD) + self.position_TD[from_end_BT]
        return placed_BTD

    def _beside(self, z_BTD: Tensor, profile_B1D: Tensor) -> Tensor:
        """Concatenate the profile to every token and project: CLS first, which knows nothing but the profile, and the history."""
        x_BTD = torch.cat([self.cls_D.expand_as(profile_B1D), z_BTD], dim=1)
        beside_BTD: Tensor = self.side_token(x_BTD) + self.side_profile(profile_B1D)
        return beside_BTD

    def _read_in_place(self, x_BSD: Tensor, profile_BRD: Tensor, read_BR: Tensor) -> Tensor:
        """Read every position where it stands, behind one token that stands for no interaction."""
        assert self.read_profile is not None
        x_BSD = self.dropout(x_BSD)
        for block in self.blocks[:-1]:
            x_BSD = block(x_BSD, None)
        place_BR1 = (read_BR + 1)[:, :, None]
        # Normalised: a mean of embeddings is a hundred times shorter than a token, and would be drowned by it.
        own_BRD = self.read_profile(F.layer_norm(profile_BRD, profile_BRD.shape[-1:]))
        asking_BRD = x_BSD.gather(1, place_BR1.expand(-1, -1, x_BSD.shape[2])) + own_BRD
        past_BRS = torch.arange(x_BSD.shape[1], device=x_BSD.device) <= place_BR1
        last: Tensor = self.blocks[-1](asking_BRD, past_BRS.unsqueeze(1), x_BSD)
        return last

    def _read_cls(self, z_BTD: Tensor, profile_BRD: Tensor, read_BR: Tensor) -> Tensor:
        """Append SEP, profile and CLS once per position read; each triple sees its own past and itself only."""
        R = read_BR.shape[1]
        sep_BRD, cls_BRD = self.sep_D.expand_as(profile_BRD), self.cls_D.expand_as(profile_BRD)
        x = self.dropout(torch.cat([z_BTD, sep_BRD, profile_BRD, cls_BRD], dim=1))
        mask = cls_mask(z_BTD.shape[1], read_BR)
        for block in self.blocks[:-1]:
            x = block(x, mask)
        first = x.shape[1] - R
        last: Tensor = self.blocks[-1](x[:, first:], mask[:, :, first:], x)
        return last


def cls_mask(T: int, read_BR: Tensor) -> Tensor:
    """Return which token may see which in [z_1..z_T, SEP_1..R, profile_1..R, CLS_1..R]: bool [B, 1, T+3R, T+3R].

    Interactions are causal among themselves. SEP, profile and CLS of position r see the interactions up to r and, causally,
    each other; nothing sees them but the ones after them in the same triple.
    """
    # One mask for the whole batch; a device would have to be waited for to tell.
    if read_BR.shape[0] > 1 and read_BR.device.type == "cpu" and bool((read_BR == read_BR[:1]).all()):
        read_BR = read_BR[:1]
    B, R = read_BR.shape
    device = read_BR.device
    position_T = torch.arange(T, device=device)
    history_TT = position_T[:, None] >= position_T
    past_BRT = position_T <= read_BR[:, :, None]
    own_RR = torch.eye(R, dtype=torch.bool, device=device)
    tail = torch.kron(torch.ones(3, 3, dtype=torch.bool, device=device).tril(), own_RR)
    top = torch.cat([history_TT, torch.zeros(T, 3 * R, dtype=torch.bool, device=device)], dim=1).expand(B, -1, -1)
    bottom = torch.cat([past_BRT.repeat(1, 3, 1), tail.expand(B, -1, -1)], dim=2)
    return torch.cat([top, bottom], dim=1).unsqueeze(1)
