"""The user side of a model, for answering: the vectors that training computes, with fewer operations.

Shapes: B requests, T interactions (padded on the right), V interactions of all requests, D width, R = B * (1 + T) rows.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from rf_platform.features.encode import EncodedTable
from rf_platform.features.spec import FeatureSpec, Side
from rf_serving.retrieval.folded_tokens import FoldedTokens
from rf_serving.retrieval.frozen_block import FrozenBlock, FrozenNorm, linear_weights
from rf_training.model.fusion import MeanFusion
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.user_tower import UserTower


class Encoded(NamedTuple):
    """What the tower makes of requests, and what it made on the way."""

    queries_BD: Tensor
    """The vectors to search with, as :meth:`RetrievalFormer.query_vectors` gives them."""
    tokens_VD: Tensor
    """The interaction tokens of all requests, oldest first, one request after the other."""
    users_BD: Tensor
    """The tower's output, not normalised."""


class QueryTower:
    """Turns histories and profiles into query vectors.

    Beside training's own look-ups (:class:`FoldedTokens`) and modules (:class:`FrozenBlock`), three things are left out. In the
    layouts that read every position where it stands, the last block computes the one position that is read. Behind a closed
    gate, interactions are not fused. A fusion that is a mean adds tokens up as it looks them up.

    Safe from several threads at once: nothing is kept between calls.
    """

    def __init__(self, model: RetrievalFormer, spec: FeatureSpec) -> None:
        self._model = model
        self._folded = {side: FoldedTokens.of(model, side, spec.inputs(side)) for side in ("user", "context")}
        self._gate = model.interaction_gate.item()
        self._fuses = model.context_tokens.count > 0 and self._gate != 0
        self._biased = model.biased
        self._reads_last = None if model.user_tower.layout == "cls" else _ReadLast(model.user_tower)

    @torch.inference_mode()
    def __call__(
        self, h_VD: Tensor, length_B: npt.NDArray[np.int64], users: EncodedTable, context: EncodedTable
    ) -> Encoded:
        """Encode requests.

        Args:
            h_VD: what stands for the items of the histories, oldest first, one request after the other.
            length_B: interactions of each request, at most the model's ``max_history``.
            users: profiles [B].
            context: of the interactions [V].
        """
        z_VD = self._interactions(h_VD, context) if self._fuses and len(h_VD) else h_VD
        p_BD = self._profiles(users, len(length_B))
        if self._reads_last is not None:
            u_BD = self._reads_last(z_VD, length_B, p_BD)
        else:
            u_BD = self._model.encode_users(z_VD, torch.from_numpy(length_B), p_BD[:, None])[:, 0]
        queries_BD = F.normalize(u_BD, dim=-1)
        return Encoded(F.pad(queries_BD, (0, 1), value=1.0) if self._biased else queries_BD, z_VD, u_BD)

    def _interactions(self, h_VD: Tensor, context: EncodedTable) -> Tensor:
        """Return the interaction tokens [V, D] (Eq. 7, R6)."""
        model, folded = self._model, self._folded["context"]
        if folded is not None and isinstance(model.interaction_fusion, MeanFusion):
            sum_VE = folded.summed(context)
            sum_VD, count_V1 = sum_VE[:, :-1], sum_VE[:, -1:]
            return torch.addcdiv(h_VD, sum_VD.add_(h_VD), count_V1.add_(1), value=self._gate)
        tokens_VMD, present_VM = self._tokens("context", context)
        tokens_VMD = torch.cat([h_VD.unsqueeze(1), tokens_VMD], dim=1)
        fused_VD = model.interaction_fusion(tokens_VMD, F.pad(present_VM, (1, 0), value=True))
        return torch.addcmul(h_VD, model.interaction_gate, fused_VD)

    def _profiles(self, users: EncodedTable, count: int) -> Tensor:
        """Return the profiles [B, D], as :meth:`RetrievalFormer.encode_profiles` does."""
        fusion = self._model.profile_fusion
        if not self._model.user_tokens.count:
            return fusion.empty_D.expand(count, -1)
        folded = self._folded["user"]
        if folded is None or not isinstance(fusion, MeanFusion):
            profiles_BD: Tensor = fusion(*self._tokens("user", users))
            return profiles_BD
        sum_BE = folded.summed(users)
        sum_BD, count_B1 = sum_BE[:, :-1], sum_BE[:, -1:]
        return torch.where(count_B1 > 0, sum_BD / count_B1, fusion.empty_D)

    def _tokens(self, side: Side, encoded: EncodedTable) -> tuple[Tensor, Tensor]:
        folded = self._folded[side]
        if folded is not None:
            return folded(encoded)
        features = FeatureTensors.from_encoded(encoded)
        tokens_RMD, present_RM = self._model.side(side)(features, self._model.embed({side: features}))
        return tokens_RMD, present_RM


class _ReadLast:
    """The user tower's output behind the last interaction (Eq. 8, R7, R8), in the layouts ``prefix`` and ``side``."""

    @torch.inference_mode()
    def __init__(self, tower: UserTower) -> None:
        self._blocks = [FrozenBlock(block) for block in tower.blocks]  # type: ignore[arg-type]
        self._enter_norm, self._norm = FrozenNorm(tower.input_norm), FrozenNorm(tower.norm)
        self._project = linear_weights(tower.project)
        self._position_TD = tower.position_TD.detach().flip(0).contiguous()
        """Positions of the oldest interaction that is read to the latest one."""
        self._side = None
        if tower.layout == "side":
            self._side = (
                *linear_weights(tower.side_token),
                tower.side_profile.weight.detach().t(),
                tower.cls_D.detach(),
            )

    def __call__(self, z_VD: Tensor, length_B: npt.NDArray[np.int64], p_BD: Tensor) -> Tensor:
        B, T = len(length_B), max(1, int(length_B.max()))
        D = p_BD.shape[1]
        full = len(z_VD) == B * T
        x_BTD = self._enter(z_VD, length_B, p_BD, T)
        row_B = torch.from_numpy(np.arange(B) * (1 + T) + length_B)
        seen_BT = None if full else torch.from_numpy(np.arange(1 + T) <= length_B[:, None])
        x_RD = x_BTD.view(B * (1 + T), D)
        for block in self._blocks[:-1]:
            x_RD = block.every(x_RD, 1 + T)
        bias, weight = self._project
        return torch.addmm(bias, self._norm(self._blocks[-1].last(x_RD, 1 + T, row_B, seen_BT)), weight)

    def _enter(self, z_VD: Tensor, length_B: npt.NDArray[np.int64], p_BD: Tensor, T: int) -> Tensor:
        """Return what the first block gets [B, 1 + T, D]: something for the profile, and the interactions in their places."""
        B, D = p_BD.shape
        most = len(self._position_TD)
        placed_VD = self._enter_norm(z_VD)
        if len(z_VD) == B * T:
            placed_BTD = placed_VD.view(B, T, D) + self._position_TD[most - T :]
        else:
            row_V = np.repeat(np.arange(B), length_B)
            column_V = np.arange(len(z_VD)) - np.repeat(np.cumsum(length_B) - length_B, length_B)
            from_start_V = column_V + most - length_B[row_V]
            placed_VD = placed_VD.add_(self._position_TD[torch.from_numpy(from_start_V)])
            # What stands behind a history is attended to by nothing that is read.
            placed_BTD = placed_VD.new_zeros(B * T, D)
            placed_BTD[torch.from_numpy(row_V * T + column_V)] = placed_VD
            placed_BTD = placed_BTD.view(B, T, D)
        if self._side is None:
            return torch.cat([p_BD.unsqueeze(1), placed_BTD], dim=1)
        bias, weight, profile_weight, cls_D = self._side
        x_BTD = torch.cat([cls_D.expand(B, 1, D), placed_BTD], dim=1)
        beside_BTD = torch.addmm(bias, x_BTD.view(B * (1 + T), D), weight).view(B, 1 + T, D)
        return beside_BTD.add_(torch.mm(p_BD, profile_weight).unsqueeze(1))
