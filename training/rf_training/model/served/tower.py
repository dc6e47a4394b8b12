"""Served user tower: the vectors that training computes, with fewer operations.

Shapes: B requests, V interactions of all requests, D width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from rf_platform.features.jagged import EncodedTable
from rf_platform.features.spec import FeatureSpec, Side
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer, seconds_of
from rf_training.model.served import blocks
from rf_training.model.served.exported import ExportedForm
from rf_training.model.served.folded_tokens import FoldedTokens
from rf_training.model.served.fusions import FORMS
from rf_training.model.served.layouts import LAYOUTS, places
from rf_training.model.served.onnx_graph import Inputs, OnnxSession
from rf_training.model.served.tower_graph import TowerGraph, centred

Goals = Sequence[npt.NDArray[np.float32] | None] | None
"""Weights over goals [G] of requests that name some."""


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
        fuse, used = FORMS.get(model.config.fusion), {"user": model.user_tokens.count > 0, "context": self._fuses}
        self._added: dict[Side, FoldedTokens] = {}
        """Folded tokens that the graph fuses, by side."""
        graph, D = TowerGraph(), model.config.dim
        z_VD = h_VD = graph.numbers("h_VD", "V", D)
        fused: dict[Side, str] = {}
        for side, folded in self._folded.items():
            if fuse is not None and folded is not None and used[side]:
                first, fusion = (h_VD, model.interaction_fusion) if side == "context" else (None, model.profile_fusion)
                self._added[side], fused[side] = folded, fuse(graph, side, folded, first, fusion.empty_D)
        if "context" in fused:
            z_VD = graph("Add", h_VD, graph("Mul", fused["context"], graph.weight(model.interaction_gate)))
        p_BD = fused["user"] if "user" in fused else graph.numbers("p_BD", "B", D)
        entered = LAYOUTS[model.config.layout].enter(graph, model.user_tower, z_VD, p_BD)
        form = blocks.FORMS.get(model.config.tower, ExportedForm)(graph, model.time is not None)
        goal_BD = None
        if (goals := model.goals) is not None:
            goal_BG = graph.numbers("goal_BG", "B", len(goals.names))
            goal_BD = graph("MatMul", goal_BG, graph.weight(centred(goals.goal_GD.t()).t()))
        u_BD = graph.read(model.user_tower, form, *entered, p_BD, goal_BD)
        query_BD = graph("LpNormalization", u_BD, axis=-1, p=2)
        if model.biased:
            query_BD = graph("Pad", query_BD, graph.indices_of(0, 0, 0, 1), graph.weight(np.array(1, np.float32)))
        self._placed = graph.inputs
        self._session: OnnxSession = graph.session([query_BD, u_BD, *([z_VD] if "context" in fused else [])])

    def __call__(
        self,
        h_VD: npt.NDArray[np.float32],
        length_B: npt.NDArray[np.int64],
        users: EncodedTable,
        context: EncodedTable,
        goals: Goals = None,
    ) -> Encoded:
        """Encode requests.

        Args:
            h_VD: what stands for the items of the histories, oldest first, one request after the other.
            length_B: interactions of each request, at most the model's ``max_history``.
            users: profiles [B].
            context: of the interactions [V].
            goals: weights over goals of each request; None for those of a request that names none. A model without goals
                ignores them.
        """
        inputs = self._inputs(h_VD, length_B, users, context, goals)
        query_BD, u_BD, *z_VD = self._session(inputs)
        return Encoded(query_BD, z_VD[0] if z_VD else inputs["h_VD"], u_BD)

    def queries(
        self,
        h_VD: npt.NDArray[np.float32],
        length_B: npt.NDArray[np.int64],
        users: EncodedTable,
        context: EncodedTable,
        goals: Goals = None,
    ) -> npt.NDArray[np.float32]:
        """Return the vectors to search with alone [B, D]; see :meth:`__call__`."""
        return self._session(self._inputs(h_VD, length_B, users, context, goals), only_first=True)[0]

    def _inputs(
        self,
        h_VD: npt.NDArray[np.float32],
        length_B: npt.NDArray[np.int64],
        users: EncodedTable,
        context: EncodedTable,
        goals: Goals,
    ) -> Inputs:
        placed = places(length_B.tolist(), self._model.config.layout, self._model.time is not None)
        inputs = {name: placed[name] for name in placed.keys() & self._placed}
        if (time := self._model.time) is not None:
            # Requests one after the other: only times of one are compared. Behind them, that of a request without interactions.
            inputs["seconds_V"] = np.append(np.cumsum(seconds_of(torch.from_numpy(context.numbers[time])).numpy()), 0)
        if self._model.goals is not None:
            mix_G = self._model.goals.mix_G.numpy()
            asked = [None] * len(length_B) if goals is None else goals
            inputs["goal_BG"] = np.stack([mix_G if weight_G is None else weight_G for weight_G in asked])
        features: dict[Side, EncodedTable] = {"user": users, "context": context}
        for side, folded in self._added.items():
            inputs |= folded.inputs(side, features[side])
        if self._fuses and "context" not in self._added and len(h_VD):
            h_VD = self._interactions(torch.from_numpy(h_VD), context).numpy()
        if "user" not in self._added:
            inputs["p_BD"] = self._profiles(users, len(length_B)).numpy()
        inputs["h_VD"] = h_VD
        return inputs

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
