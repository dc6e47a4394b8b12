"""The user side of a model, for answering: the vectors that training computes, with fewer operations.

Shapes: B requests, V interactions of all requests, D width.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from rf_platform.features.encode import EncodedTable
from rf_platform.features.spec import FeatureSpec, Side
from rf_training.model.fusion import Fusion, MeanFusion
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.served.folded_tokens import FoldedTokens
from rf_training.model.served.graph import Inputs, TowerGraph, tokens_of


class Encoded(NamedTuple):
    """Output of the served tower, and its interaction tokens."""

    queries_BD: npt.NDArray[np.float32]
    """The vectors to search with, as :meth:`RetrievalFormer.query_vectors` gives them."""
    tokens_VD: npt.NDArray[np.float32]
    """The interaction tokens of all requests, oldest first, one request after the other."""
    users_BD: npt.NDArray[np.float32]
    """The tower's output, not normalised."""


class ServedTower:
    """Turns histories and profiles into query vectors.

    Most of it is one graph (:class:`TowerGraph`). Tokens are read from tables in which everything that does not depend on the
    request was done before (:class:`FoldedTokens`); fusions that are no mean are training's own modules. Behind a closed gate,
    interactions are not fused.

    Safe from several threads at once: nothing is kept between calls.
    """

    def __init__(self, model: RetrievalFormer, spec: FeatureSpec) -> None:
        self._model = model
        self._folded = {side: FoldedTokens.of(model, side, spec.inputs(side)) for side in ("user", "context")}
        self._gate = model.interaction_gate.item()
        self._fuses = model.context_tokens.count > 0 and self._gate != 0
        self._added: dict[Side, FoldedTokens] = {}
        """Tokens that the graph adds up, by side."""
        if self._fuses and (found := self._adding("context", model.interaction_fusion)):
            self._added["context"] = found
        if model.user_tokens.count and (found := self._adding("user", model.profile_fusion)):
            self._added["user"] = found
        self._graph = TowerGraph(model, self._added.get("context"), self._added.get("user"))

    def __call__(
        self,
        h_VD: npt.NDArray[np.float32],
        length_B: npt.NDArray[np.int64],
        users: EncodedTable,
        context: EncodedTable,
    ) -> Encoded:
        """Encode requests.

        Args:
            h_VD: what stands for the items of the histories, oldest first, one request after the other.
            length_B: interactions of each request, at most the model's ``max_history``.
            users: profiles [B].
            context: of the interactions [V].
        """
        features: dict[Side, EncodedTable] = {"user": users, "context": context}
        tokens: Inputs = {}
        for side, folded in self._added.items():
            tokens |= tokens_of(side, folded, features[side])
        if "context" not in self._added:
            h_VD = self._interactions(h_VD, context)
        if "user" not in self._added:
            tokens["p_BD"] = self._profiles(users, len(length_B)).numpy()
        queries_BD, u_BD, z_VD = self._graph(h_VD, length_B, tokens)
        return Encoded(queries_BD, z_VD, u_BD)

    def _adding(self, side: Side, fusion: Fusion) -> FoldedTokens | None:
        """Return the tokens of a side if the graph can fuse them."""
        folded = self._folded[side]
        return folded if isinstance(fusion, MeanFusion) and folded is not None and folded.adds_up else None

    def _interactions(self, h_VD: npt.NDArray[np.float32], context: EncodedTable) -> npt.NDArray[np.float32]:
        """Return the interaction tokens [V, D] (Eq. 7, R6)."""
        return self._fused(torch.from_numpy(h_VD), context).numpy() if self._fuses and len(h_VD) else h_VD

    @torch.inference_mode()
    def _fused(self, h_VD: Tensor, context: EncodedTable) -> Tensor:
        model, folded = self._model, self._folded["context"]
        if folded is not None and isinstance(model.interaction_fusion, MeanFusion):
            sum_VE = folded.summed(context)
            sum_VD, count_V1 = sum_VE[:, :-1], sum_VE[:, -1:]
            return torch.addcdiv(h_VD, sum_VD.add_(h_VD), count_V1.add_(1), value=self._gate)
        tokens_VMD, present_VM = self._tokens("context", context)
        tokens_VMD = torch.cat([h_VD.unsqueeze(1), tokens_VMD], dim=1)
        fused_VD = model.interaction_fusion(tokens_VMD, F.pad(present_VM, (1, 0), value=True))
        return torch.addcmul(h_VD, model.interaction_gate, fused_VD)

    @torch.inference_mode()
    def _profiles(self, users: EncodedTable, count: int) -> Tensor:
        """Return the profiles [B, D], as :meth:`RetrievalFormer.encode_profiles` does."""
        fusion = self._model.profile_fusion
        if not self._model.user_tokens.count:
            return fusion.empty_D.detach().expand(count, -1)
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
