"""Served user tower: the vectors that training computes, with fewer operations.

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
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.served.folded_tokens import FoldedTokens
from rf_training.model.served.fusions import FORMS
from rf_training.model.served.layouts import LAYOUTS, places
from rf_training.model.served.onnx_graph import OnnxSession
from rf_training.model.served.tower_graph import TowerGraph


class Encoded(NamedTuple):
    """Output of the served tower, and its interaction tokens."""

    queries_BD: npt.NDArray[np.float32]
    """The vectors to search with, as :meth:`RetrievalFormer.query_vectors` gives them."""
    tokens_VD: npt.NDArray[np.float32]
    """The interaction tokens of all requests, oldest first, one request after the other."""
    users_BD: npt.NDArray[np.float32]
    """The tower's output, not normalised."""


class ServedTower:
    """User side of a model as one graph, written from the trained weights.

    Tokens are read from tables in which everything that does not depend on the request was done before (:class:`FoldedTokens`).
    What the graph does not compute is training's own: fusions without a form, and tokens that are not folded. Behind a closed
    gate, interactions are not fused. Part by part, the graph repeats :class:`~rf_training.model.user_tower.UserTower`: a
    change of one is a change of the other.

    Safe from several threads at once: nothing is kept between calls.
    """

    @torch.inference_mode()
    def __init__(self, model: RetrievalFormer, spec: FeatureSpec) -> None:
        """Write the graph.

        Args:
            model: trained.
            spec: features that the model has.
        """
        self._model = model
        sides: tuple[Side, ...] = ("user", "context")
        self._folded = {side: FoldedTokens.of(model, side, spec.inputs(side)) for side in sides}
        self._fuses = model.context_tokens.count > 0 and model.interaction_gate.item() != 0
        form, used = FORMS[model.config.fusion], {"user": model.user_tokens.count > 0, "context": self._fuses}
        self._added: dict[Side, FoldedTokens] = {}
        """Folded tokens that the graph fuses, by side."""
        graph, D = TowerGraph(), model.config.dim
        z_VD = h_VD = graph.numbers("h_VD", "V", D)
        fused: dict[Side, str] = {}
        for side, folded in self._folded.items():
            if form is not None and folded is not None and used[side]:
                first, fusion = (h_VD, model.interaction_fusion) if side == "context" else (None, model.profile_fusion)
                self._added[side], fused[side] = folded, form(graph, side, folded, first, fusion.empty_D)
        if "context" in fused:
            z_VD = graph("Add", h_VD, graph("Mul", fused["context"], graph.weight(model.interaction_gate)))
        p_BD = fused["user"] if "user" in fused else graph.numbers("p_BD", "B", D)
        entered = LAYOUTS[model.config.layout].enter(graph, model.user_tower, z_VD, p_BD)
        u_BD = graph.read(model.user_tower, *entered, p_BD)
        query_BD = graph("LpNormalization", u_BD, axis=-1, p=2)
        if model.biased:
            query_BD = graph("Pad", query_BD, graph.indices_of(0, 0, 0, 1), graph.weight(np.array(1, np.float32)))
        self._session: OnnxSession = graph.session([query_BD, u_BD, *([z_VD] if "context" in fused else [])])

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
        inputs = dict(places(length_B.tolist(), self._model.config.layout))
        features: dict[Side, EncodedTable] = {"user": users, "context": context}
        for side, folded in self._added.items():
            inputs |= folded.inputs(side, features[side])
        if self._fuses and "context" not in self._added and len(h_VD):
            h_VD = self._interactions(torch.from_numpy(h_VD), context).numpy()
        if "user" not in self._added:
            inputs["p_BD"] = self._profiles(users, len(length_B)).numpy()
        query_BD, u_BD, *z_VD = self._session({**inputs, "h_VD": h_VD})
        return Encoded(query_BD, z_VD[0] if z_VD else h_VD, u_BD)

    @torch.inference_mode()
    def _interactions(self, h_VD: Tensor, context: EncodedTable) -> Tensor:
        """Return the interaction tokens [V, D] (Eq. 7, R6), as :meth:`RetrievalFormer.encode_interactions` does."""
        tokens_VMD, present_VM = self._tokens("context", context)
        tokens_VMD = torch.cat([h_VD.unsqueeze(1), tokens_VMD], dim=1)
        fused_VD = self._model.interaction_fusion(tokens_VMD, F.pad(present_VM, (1, 0), value=True))
        return torch.addcmul(h_VD, self._model.interaction_gate, fused_VD)

    @torch.inference_mode()
    def _profiles(self, users: EncodedTable, count: int) -> Tensor:
        """Return the profiles [B, D], as :meth:`RetrievalFormer.encode_profiles` does."""
        fusion = self._model.profile_fusion
        if not self._model.user_tokens.count:
            return fusion.empty_D.detach().expand(count, -1)
        profiles_BD: Tensor = fusion(*self._tokens("user", users))
        return profiles_BD

    def _tokens(self, side: Side, encoded: EncodedTable) -> tuple[Tensor, Tensor]:
        folded = self._folded[side]
        if folded is not None:
            return folded(encoded)
        features = FeatureTensors.from_encoded(encoded)
        tokens_RMD, present_RM = self._model.side(side)(features, self._model.embed({side: features}))
        return tokens_RMD, present_RM
