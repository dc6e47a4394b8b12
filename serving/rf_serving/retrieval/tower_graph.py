"""The user tower as it is served, as a graph for ONNX Runtime.

A request alone has some fifty tokens of 64 numbers, which is less work than calling forty operations from Python: here they
are one call. Two things are left out beside training's tower: the last block computes the one position that is read, and a
fusion that is a mean adds tokens up as it looks them up.

Shapes: B requests, V interactions of all requests, S = 1 + T places of a request (T interactions at most, padded on the right),
R = B * S rows, D width, E = D + 1.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rf_platform.features.encode import EncodedTable
from rf_platform.features.spec import Side
from rf_serving.retrieval.folded_tokens import FoldedTokens
from rf_serving.retrieval.onnx_graph import CONTRIB, OnnxGraph
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.transformer import Block
from rf_training.model.user_tower import UserTower

Inputs = dict[str, npt.NDArray[Any]]
_LEAST_LENGTH = 1e-12
_KEPT_PLACES = 256


class TowerGraph:
    """Computes query vectors in the layouts ``prefix`` and ``side``, whose every position is read where it stands."""

    @torch.inference_mode()
    def __init__(self, model: RetrievalFormer, context: FoldedTokens | None, user: FoldedTokens | None) -> None:
        """Write the graph.

        Args:
            model: trained.
            context: features of an interaction whose tokens are added up here; None: interactions come fused.
            user: features of a profile, likewise.
        """
        self._layout = model.user_tower.layout
        graph, D = OnnxGraph(), model.config.dim
        h_VD = graph.numbers("h_VD", "V", D)
        z_VD = h_VD if context is None else _fused(graph, h_VD, context, model.interaction_gate)
        p_BD = graph.numbers("p_BD", "B", D) if user is None else _profiles(graph, user, model.profile_fusion.empty_D)
        u_BD = _InPlace(graph, model.user_tower).write(z_VD, p_BD)
        length_B1 = graph("ReduceL2", u_BD, graph.indices_of(-1), keepdims=1)
        query_BD = graph("Div", u_BD, graph("Max", length_B1, graph.weight(np.array(_LEAST_LENGTH, np.float32))))
        if model.biased:
            query_BD = graph("Pad", query_BD, graph.indices_of(0, 0, 0, 1), graph.weight(np.array(1, np.float32)))
        self._fuses = context is not None
        self._session = graph.session([query_BD, u_BD, *([z_VD] if self._fuses else [])])

    def __call__(self, h_VD: Tensor, length_B: npt.NDArray[np.int64], tokens: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return the query vectors, the tower's output [B, D], not normalised, and the interactions as they are fused [V, D].

        Args:
            h_VD: what stands for the items of the histories; interactions, where they come fused.
            length_B: interactions of each request.
            tokens: profiles ``p_BD``, where they come fused; else, and for interactions, :func:`tokens_of`.
        """
        lengths = length_B.tolist()
        places = _places_alone(lengths[0], self._layout) if len(lengths) == 1 else _places(lengths, self._layout)
        inputs = {**places, **tokens, "h_VD": h_VD.numpy()}
        query_BD, u_BD, *fused = (torch.from_numpy(each) for each in self._session(inputs))
        return query_BD, u_BD, fused[0] if self._fuses else h_VD


class _InPlace:
    """Writes the user tower's output behind the last interaction (Eq. 8, R7, R8)."""

    def __init__(self, graph: OnnxGraph, tower: UserTower) -> None:
        self._graph, self._tower = graph, tower
        self._flat = graph.indices_of(-1, tower.position_TD.shape[1])
        self._shape, self._last_B = graph.indices("shape", 3), graph.indices("last_B", "B")
        self._seen_B11S = graph.numbers("seen_B11S", "B", 1, 1, "S")

    def write(self, z_VD: str, p_BD: str) -> str:
        """Add everything from interactions and profiles to the output [B, D]."""
        tower = self._tower
        x_RD = self._enter(z_VD, p_BD)
        *blocks, last = cast(Sequence[Block], tower.blocks)
        for block in blocks:
            x_RD = self._every(block, x_RD)
        return self._linear(self._norm(self._read(last, x_RD), tower.norm), tower.project)

    def _enter(self, z_VD: str, p_BD: str) -> str:
        """Return what the first block gets [R, D]: something for the profile, and the interactions in their places."""
        graph, tower = self._graph, self._tower
        position_VD = graph("Gather", graph.weight(tower.position_TD), graph.indices("from_end_V", "V"))
        placed_VD = graph("Add", self._norm(z_VD, tower.input_norm), position_VD)
        nothing_1D = graph.weight(torch.zeros(1, tower.position_TD.shape[1]))
        place_R = graph.indices("place_R", "R")
        if tower.layout != "side":
            return graph("Gather", graph("Concat", placed_VD, p_BD, nothing_1D, axis=0), place_R)
        x_RD = graph("Gather", graph("Concat", placed_VD, graph.weight(tower.cls_D[None]), nothing_1D, axis=0), place_R)
        beside_BD = graph("MatMul", p_BD, graph.weight(tower.side_profile.weight.t()))
        beside_RD = graph("Gather", beside_BD, graph.indices("request_R", "R"))
        return graph("Add", self._linear(x_RD, tower.side_token), beside_RD)

    def _every(self, block: Block, x_RD: str) -> str:
        """Return what a block makes of all tokens; each attends to those before it in its request, and to itself."""
        graph = self._graph
        normed_RD = self._norm(x_RD, block.attention_norm)
        q_BSD = graph("Reshape", self._linear(normed_RD, block.query), self._shape)
        k_BSD, v_BSD = self._key_value(block, normed_RD)
        mixed_BSD = graph(
            "MultiHeadAttention", q_BSD, k_BSD, v_BSD, domain=CONTRIB, num_heads=block.heads, unidirectional=1
        )
        return self._rest(block, x_RD, mixed_BSD)

    def _read(self, block: Block, x_RD: str) -> str:
        """Return what a block makes of the last token of each request [B, D]."""
        graph = self._graph
        normed_RD = self._norm(x_RD, block.attention_norm)
        k_BSD, v_BSD = self._key_value(block, normed_RD)
        q_BD = self._linear(graph("Gather", normed_RD, self._last_B), block.query)
        q_B1D = graph("Unsqueeze", q_BD, graph.indices_of(1))
        mixed_B1D = graph(
            *("MultiHeadAttention", q_B1D, k_BSD, v_BSD, "", "", self._seen_B11S), domain=CONTRIB, num_heads=block.heads
        )
        return self._rest(block, graph("Gather", x_RD, self._last_B), mixed_B1D)

    def _key_value(self, block: Block, normed_RD: str) -> list[str]:
        # Two products: one, cut in two, would be copied.
        pairs = zip(block.key_value.weight.chunk(2), block.key_value.bias.chunk(2), strict=True)
        return [self._graph("Reshape", self._product(normed_RD, *pair), self._shape) for pair in pairs]

    def _rest(self, block: Block, x_RD: str, mixed: str) -> str:
        """Return a block's output from its input and what attention gave."""
        graph, up, down = self._graph, block.ffn[0], block.ffn[-1]
        assert isinstance(up, nn.Linear)
        assert isinstance(down, nn.Linear)
        x_RD = graph("Add", self._linear(graph("Reshape", mixed, self._flat), block.out), x_RD)
        hidden = graph("Gelu", self._linear(self._norm(x_RD, block.ffn_norm), up))
        return graph("Add", self._linear(hidden, down), x_RD)

    def _norm(self, x_RD: str, norm: nn.LayerNorm) -> str:
        graph = self._graph
        return graph("LayerNormalization", x_RD, graph.weight(norm.weight), graph.weight(norm.bias), epsilon=norm.eps)

    def _linear(self, x_RD: str, layer: nn.Linear) -> str:
        return self._product(x_RD, layer.weight, layer.bias)

    def _product(self, x_RD: str, weight: Tensor, bias: Tensor) -> str:
        return self._graph("Gemm", x_RD, self._graph.weight(weight.t()), self._graph.weight(bias))


def tokens_of(side: Side, folded: FoldedTokens, features: EncodedTable) -> Inputs:
    """Return what the graph adds up for the features of a side."""
    inputs: Inputs = {}
    if folded.sum_table_VE is not None:
        inputs[f"{side}_ids"] = folded.ids(features)
    if folded.sum_numbers_NE is not None:
        inputs[f"{side}_numbers"] = folded.flagged(features)
    return inputs


def _sum(graph: OnnxGraph, side: Side, folded: FoldedTokens) -> tuple[str, str]:
    """Return the sum of the tokens that are present [rows, D], and their number [rows, 1]."""
    parts: list[str] = []
    if (table_VE := folded.sum_table_VE) is not None:
        token_RFE = graph("Gather", graph.weight(table_VE), graph.indices(f"{side}_ids", None, None))
        parts.append(graph("ReduceSum", token_RFE, graph.indices_of(1), keepdims=0))
    if (numbers_NE := folded.sum_numbers_NE) is not None:
        number_RN = graph.numbers(f"{side}_numbers", None, len(numbers_NE))
        parts.append(graph("MatMul", number_RN, graph.weight(numbers_NE)))
    sum_RE = parts[0] if len(parts) == 1 else graph("Add", *parts)
    width = folded.dim
    sum_RD, count_R1 = graph.split("Split", 2, sum_RE, graph.indices_of(width, 1), axis=1)
    return sum_RD, count_R1


def _fused(graph: OnnxGraph, h_VD: str, context: FoldedTokens, gate: Tensor) -> str:
    """Return the interactions, each the item's token and a share of the mean of all its tokens [V, D] (Eq. 7, R6)."""
    sum_VD, count_V1 = _sum(graph, "context", context)
    one = graph.weight(np.array(1, np.float32))
    mean_VD = graph("Div", graph("Add", sum_VD, h_VD), graph("Add", count_V1, one))
    return graph("Add", h_VD, graph("Mul", mean_VD, graph.weight(gate)))


def _profiles(graph: OnnxGraph, user: FoldedTokens, empty_D: Tensor) -> str:
    """Return the mean of the tokens of each profile [B, D], ``empty_D`` where there are none."""
    sum_BD, count_B1 = _sum(graph, "user", user)
    one, zero = (graph.weight(np.array(value, np.float32)) for value in (1, 0))
    mean_BD = graph("Div", sum_BD, graph("Max", count_B1, one))
    return graph("Where", graph("Greater", count_B1, zero), mean_BD, graph.weight(empty_D))


@lru_cache(_KEPT_PLACES)
def _places_alone(length: int, layout: str) -> Inputs:
    """Return :func:`_places` of one request, which is most of what its inputs take to make."""
    return _places([length], layout)


def _places(lengths: Sequence[int], layout: str) -> Inputs:
    """Return where everything stands."""
    length_B = np.array(lengths, np.int64)
    B, S, V = len(lengths), 1 + max(lengths), sum(lengths)
    first_B = np.cumsum(length_B) - length_B
    column_S = np.arange(S)
    place_BS = column_S - 1 + first_B[:, None]
    side = layout == "side"
    place_BS[column_S > length_B[:, None]] = V + (1 if side else B)
    place_BS[:, 0] = V if side else V + np.arange(B)
    request_V = np.repeat(np.arange(B), length_B)
    inputs = {
        "from_end_V": (first_B + length_B)[request_V] - 1 - np.arange(V),
        "place_R": place_BS.ravel(),
        "last_B": np.arange(B) * S + length_B,
        "seen_B11S": np.where(column_S <= length_B[:, None], 0, -np.inf).astype(np.float32)[:, None, None],
        "shape": np.array([B, S, -1]),
    }
    if side:
        inputs["request_R"] = np.repeat(np.arange(B), S)
    return inputs
