"""User tower: causal blocks over interaction tokens and the profile.

Shapes: B users, T interactions (padded on the right), S = 1 + T places, R positions read, D width.
A read position r in -1..T-1 means "after interaction r": -1 sees the profile only, T-1 everything.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_training.model.blocks import TOWERS, BlockSize, Sight, make_block
from rf_training.model.config import Layout, ModelConfig
from rf_training.model.dropout import Dropout

PLACES_BESIDE: dict[Layout, int] = {"cls": 3, "prefix": 1, "side": 1}
"""Places of a request's sequence beside its interactions."""


class UserTower(nn.Module):
    """Turns a history and a profile into a query vector, at one position or at all of them (R7, R8).

    Layouts: ``cls`` is [z_1..z_T, SEP, profile, CLS]; ``prefix`` is [profile, z_1..z_T]; ``side`` is [CLS, z_1..z_T] with the
    profile concatenated to every token and the pair projected back to D, starting from the token alone.

    A user's profile changes while the history grows. In ``cls`` every position read has its own. In the other two all tokens
    share one, the oldest, which no position is too early to know; so each position read gets its own beside it, normalised,
    projected and added before it asks the last block. The projection starts at zero, and nothing of it reaches another position.

    Positions are counted from the end of the history, so that the latest interaction always has the same one.

    The kind of tower (``model.tower``) is the kind of its blocks: how tokens are mixed. All else is the same for every kind.

    Requests are answered by the same tower as a graph, :mod:`rf_training.model.served`: a change here is a change there.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layout = config.layout
        self.reads_time = TOWERS[config.tower].block.reads_time
        """Whether times of interactions are read, where there are any."""
        dim = config.dim
        self.position_TD = nn.Parameter(torch.randn(config.max_history, dim) * 0.02)
        self.sep_D = nn.Parameter(torch.randn(dim) * 0.02)
        self.cls_D = nn.Parameter(torch.randn(dim) * 0.02)
        self.dropout = Dropout(config.dropout)
        size = BlockSize(
            config.dim, config.heads, config.ffn, config.dropout, config.max_history + PLACES_BESIDE[config.layout]
        )
        self.blocks = nn.ModuleList(make_block(config.tower, size) for _ in range(config.layers))
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

    def forward(
        self,
        z_BTD: Tensor,
        length_B: Tensor,
        profile_BRD: Tensor,
        read_BR: Tensor,
        seconds_BT: Tensor | None = None,
        goal_BRD: Tensor | None = None,
    ) -> Tensor:
        """Return the query vectors [B, R, D], not normalised.

        Args:
            z_BTD: interaction tokens, padded on the right.
            length_B: interactions of each user.
            profile_BRD: the profile as it was known at each position read, oldest first.
            read_BR: positions to read, -1..T-1.
            seconds_BT: float64, time of each interaction from any start; None without times.
            goal_BRD: token of the goal at each position read, or one for all, added to the place that asks the last block.
        """
        if self.layout == "cls":
            read_BRD = self._read_cls(self._placed(z_BTD, length_B), profile_BRD, read_BR, seconds_BT, goal_BRD)
        else:
            x_BSD = self.enter(z_BTD, length_B, profile_BRD[:, :1])
            read_BRD = self._read_in_place(x_BSD, profile_BRD, read_BR, seconds_BT, goal_BRD)
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

    def _read_in_place(
        self,
        x_BSD: Tensor,
        profile_BRD: Tensor,
        read_BR: Tensor,
        seconds_BT: Tensor | None,
        goal_BRD: Tensor | None,
    ) -> Tensor:
        """Read every position where it stands, behind one token that stands for no interaction and has the time of the first."""
        assert self.read_profile is not None
        x_BSD = self.dropout(x_BSD)
        S = x_BSD.shape[1]
        log_seconds_BSS = None if seconds_BT is None else log_seconds(torch.cat([seconds_BT[:, :1], seconds_BT], dim=1))
        sight = Sight.causal(S, x_BSD.device, log_seconds_BSS)
        for block in self.blocks[:-1]:
            x_BSD = block(x_BSD, sight)
        place_BR1 = (read_BR + 1)[:, :, None]
        # Normalised: a mean of embeddings is a hundred times shorter than a token, and would be drowned by it.
        own_BRD = self.read_profile(F.layer_norm(profile_BRD, profile_BRD.shape[-1:]))
        own_BRD = own_BRD if goal_BRD is None else own_BRD + goal_BRD
        asking_BRD = x_BSD.gather(1, place_BR1.expand(-1, -1, x_BSD.shape[2])) + own_BRD
        past_BRS = sight.place_BT <= place_BR1
        if log_seconds_BSS is not None:
            log_seconds_BSS = log_seconds_BSS.gather(1, place_BR1.expand(-1, -1, S))
        asked = Sight(place_BR1.squeeze(2), sight.place_BT, past_BRS.unsqueeze(1), log_seconds_BSS)
        last: Tensor = self.blocks[-1](asking_BRD, asked, x_BSD)
        return last

    def _read_cls(
        self,
        z_BTD: Tensor,
        profile_BRD: Tensor,
        read_BR: Tensor,
        seconds_BT: Tensor | None,
        goal_BRD: Tensor | None,
    ) -> Tensor:
        """Append SEP, profile and CLS once per position read; each triple sees its own past and itself only.

        It stands behind the position read, and has its time.
        """
        R = read_BR.shape[1]
        sep_BRD, cls_BRD = self.sep_D.expand_as(profile_BRD), self.cls_D.expand_as(profile_BRD)
        x = self.dropout(torch.cat([z_BTD, sep_BRD, profile_BRD, cls_BRD], dim=1))
        mask = cls_mask(z_BTD.shape[1], read_BR)
        history_1T = torch.arange(z_BTD.shape[1], device=z_BTD.device)[None]
        place = torch.cat([history_1T.expand(len(read_BR), -1), *(read_BR + n for n in (1, 2, 3))], dim=1)
        log_seconds_BSS = None
        if seconds_BT is not None:
            read_at_BR = seconds_BT.gather(1, read_BR.clamp(min=0))
            log_seconds_BSS = log_seconds(torch.cat([seconds_BT, *(3 * [read_at_BR])], dim=1))
        sight = Sight(place, place, mask, log_seconds_BSS)
        for block in self.blocks[:-1]:
            x = block(x, sight)
        first = x.shape[1] - R
        log_seconds_BRS = None if log_seconds_BSS is None else log_seconds_BSS[:, first:]
        asked = Sight(place[:, first:], place, mask[:, :, first:], log_seconds_BRS)
        asking_BRD = x[:, first:] if goal_BRD is None else x[:, first:] + goal_BRD
        last: Tensor = self.blocks[-1](asking_BRD, asked, x)
        return last


def log_seconds(at_BS: Tensor) -> Tensor:
    """Return log(1 + seconds) from each token to each [B, S, S], those that are computed first; 0 from a later one.

    Args:
        at_BS: float64, their times.
    """
    return torch.log1p((at_BS[:, :, None] - at_BS[:, None, :]).clamp(min=0).float())


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
