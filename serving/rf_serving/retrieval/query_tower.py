"""The user side of a model, for answering: the vectors that training computes, with fewer operations.

Shapes: B requests, T interactions (padded on the right), V interactions of all requests, D width, H heads.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from rf_platform.features.encode import EncodedTable
from rf_platform.features.spec import FeatureSpec, Side
from rf_serving.retrieval.folded_tokens import FoldedTokens
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.transformer import Block


class QueryTower:
    """Turns histories and profiles into query vectors.

    Beside training's own look-ups (:class:`FoldedTokens`), two things are left out. In the layouts that read every position where
    it stands, the last block computes the one position that is read. Behind a closed gate, interactions are not fused.
    """

    def __init__(self, model: RetrievalFormer, spec: FeatureSpec) -> None:
        self._model = model
        self._folded = {side: FoldedTokens.of(model, side, spec.inputs(side)) for side in ("user", "context")}
        self._fuses = model.context_tokens.count > 0 and model.interaction_gate.item() != 0

    @torch.inference_mode()
    def __call__(
        self, h_VD: Tensor, length_B: npt.NDArray[np.int64], users: EncodedTable, context: EncodedTable
    ) -> Tensor:
        """Return the vectors to search with [B, D], as :meth:`RetrievalFormer.query_vectors` does.

        Args:
            h_VD: what stands for the items of the histories, oldest first, one request after the other.
            length_B: interactions of each request, at most the model's ``max_history``.
            users: profiles [B].
            context: of the interactions [V].
        """
        model = self._model
        z_VD = h_VD
        if self._fuses and len(h_VD):
            tokens_VMD, present_VM = self._tokens("context", context)
            tokens_VMD = torch.cat([h_VD.unsqueeze(1), tokens_VMD], dim=1)
            fused_VD = model.interaction_fusion(tokens_VMD, F.pad(present_VM, (1, 0), value=True))
            z_VD = torch.addcmul(h_VD, model.interaction_gate, fused_VD)
        if model.user_tokens.count:
            p_BD = model.profile_fusion(*self._tokens("user", users))
        else:
            p_BD = model.profile_fusion.empty_D.expand(len(length_B), -1)
        lengths = torch.from_numpy(length_B)
        if model.user_tower.layout == "cls":
            u_BD = model.encode_users(z_VD, lengths, p_BD[:, None])[:, 0]
        else:
            u_BD = self._read_last(_padded(z_VD, length_B), lengths, p_BD)
        return model.query_vectors(u_BD)

    def _tokens(self, side: Side, encoded: EncodedTable) -> tuple[Tensor, Tensor]:
        folded = self._folded[side]
        if folded is not None:
            return folded(encoded)
        features = FeatureTensors.from_encoded(encoded)
        tokens_RMD, present_RM = self._model.side(side)(features, self._model.embed({side: features}))
        return tokens_RMD, present_RM

    def _read_last(self, z_BTD: Tensor, length_B: Tensor, p_BD: Tensor) -> Tensor:
        """Return the user tower's output behind the last interaction [B, D] (Eq. 8, R7, R8)."""
        tower = self._model.user_tower
        x_BTD = tower.enter(z_BTD, length_B, p_BD[:, None])
        for block in tower.blocks[:-1]:
            x_BTD = block(x_BTD, None)
        read_BD: Tensor = tower.project(tower.norm(last_position(tower.blocks[-1], x_BTD, length_B)))  # type: ignore[arg-type]
        return read_BD


def last_position(block: Block, x_BTD: Tensor, place_B: Tensor) -> Tensor:
    """Return what a causal block makes of one token of each row [B, D].

    Args:
        block: a block of the tower.
        x_BTD: all tokens.
        place_B: which one is computed; it attends to those before it and to itself.
    """
    B, T, D = x_BTD.shape
    row_B = torch.arange(B)
    normed_BTD = block.attention_norm(x_BTD)
    q = block.query(normed_BTD[row_B, place_B]).view(B, 1, block.heads, D // block.heads).transpose(1, 2)
    k, v = block.key_value(normed_BTD).view(B, T, 2, block.heads, D // block.heads).permute(2, 0, 3, 1, 4)
    mask = torch.arange(T) <= place_B[:, None]
    mixed_BHQE = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
    x_BD = x_BTD[row_B, place_B] + block.out(mixed_BHQE.reshape(B, D))
    out_BD: Tensor = x_BD + block.ffn(block.ffn_norm(x_BD))
    return out_BD


def _padded(z_VD: Tensor, length_B: npt.NDArray[np.int64]) -> Tensor:
    """Return the interactions of each request in a row of their own [B, T, D], T at least 1."""
    B, longest = len(length_B), max(1, int(length_B.max()))
    if len(z_VD) == B * longest:
        return z_VD.view(B, longest, -1)
    row_V = np.repeat(np.arange(B), length_B)
    column_V = np.arange(len(z_VD)) - np.repeat(np.cumsum(length_B) - length_B, length_B)
    z_BTD = z_VD.new_zeros(B * longest, z_VD.shape[1])
    z_BTD[torch.from_numpy(row_V * longest + column_V)] = z_VD
    return z_BTD.view(B, longest, -1)
