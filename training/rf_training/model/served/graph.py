"""The user tower as it is served, as a graph for ONNX Runtime.

A request alone has some fifty tokens of 64 numbers, which is less work than calling forty operations from Python: here they
are one call. Two things are left out beside training's tower: the last block computes the one position that is read, and a
fusion that is a mean adds tokens up as it looks them up.

Shapes: B requests, V interactions of all requests, S places of a request (its interactions and what stands beside them, padded on
the right), D width, E = D + 1, T positions, C constants; of a side's features, R rows, F that are looked up, N numbers.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rf_platform.features.encode import EncodedTable
from rf_platform.features.spec import Side
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.served.folded_tokens import FoldedTokens
from rf_training.model.served.onnx_graph import CONTRIB, OnnxGraph
from rf_training.model.user_tower import Block, UserTower

Inputs = dict[str, npt.NDArray[Any]]
_KEPT_PLACES, _KEPT_REQUESTS = 256, 8


class TowerGraph:
    """Computes query vectors, in every layout of the tower."""

    @torch.inference_mode()
    def __init__(self, model: RetrievalFormer, context: FoldedTokens | None, user: FoldedTokens | None) -> None:
        """Write the graph.

        Args:
            model: trained.
            context: tokens of an interaction's features, added up here; None: interactions come fused.
            user: tokens of a profile's features, likewise.
        """
        self._layout = model.user_tower.layout
        graph, D = OnnxGraph(), model.config.dim
        h_VD = graph.numbers("h_VD", "V", D)
        p_BD = graph.numbers("p_BD", "B", D) if user is None else _profiles(graph, user, model.profile_fusion.empty_D)
        z_VD = h_VD if context is None else _fused(graph, h_VD, context, model.interaction_gate)
        u_BD = _Reading(graph, model.user_tower).write(z_VD, p_BD)
        query_BD = graph("LpNormalization", u_BD, axis=-1, p=2)
        if model.biased:
            query_BD = graph("Pad", query_BD, graph.indices_of(0, 0, 0, 1), graph.weight(np.array(1, np.float32)))
        self._fuses = context is not None
        self._session = graph.session([query_BD, u_BD, *([z_VD] if self._fuses else [])])

    def __call__(
        self, h_VD: npt.NDArray[np.float32], length_B: npt.NDArray[np.int64], tokens: Inputs
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the query vectors, the tower's output [B, D], not normalised, and the interactions as they are fused [V, D].

        Args:
            h_VD: what stands for the items of the histories; interactions, where they come fused.
            length_B: interactions of each request.
            tokens: profiles ``p_BD``, where they come fused; else, and for interactions, :func:`tokens_of`.
        """
        lengths = tuple(length_B.tolist())
        places = (_kept_places if len(lengths) <= _KEPT_REQUESTS else _places)(lengths, self._layout)
        inputs = {**places, **tokens, "h_VD": h_VD}
        query_BD, u_BD, *fused = self._session(inputs)
        return query_BD, u_BD, fused[0] if self._fuses else h_VD


class _Reading:
    """Writes the user tower's output at the place that has seen everything (Eq. 8, R7, R8).

    Sums, biases and the normalisation behind them are one operator: by themselves they would take a third of the time. It finds
    the variance in one pass, which is exact around zero only. What goes from block to block is read through normalisations,
    to which its mean over D is nothing: so all that is added to it has its mean taken out, where it can be in the weights.
    """

    def __init__(self, graph: OnnxGraph, tower: UserTower) -> None:
        self._graph, self._tower = graph, tower
        self._place_BS = graph.indices("place_BS", "B", "S")
        self._last_B11 = graph.indices("last_B11", "B", 1, 1)
        self._seen_B11S = graph.numbers("seen_B11S", "B", 1, 1, "S")

    def write(self, z_VD: str, p_BD: str) -> str:
        """Add everything from interactions and profiles to the output [B, D]."""
        graph, tower = self._graph, self._tower
        blocks = cast(Sequence[Block], tower.blocks)
        x_BSD, normed_BSD = self._enter(z_VD, p_BD)
        for block, following in pairwise(blocks):
            mixed_BSD = self._attend(block, normed_BSD)
            x_BSD, normed_BSD = self._rest(block, x_BSD, mixed_BSD, following.attention_norm)
        # Of the last block, the one place that is read.
        x_B1D, normed_B1D = self._read(x_BSD, normed_BSD, p_BD)
        mixed_B1D = self._attend_last(blocks[-1], normed_B1D, normed_BSD)
        _, read_B1D = self._rest(blocks[-1], x_B1D, mixed_B1D, tower.norm)
        read_BD = graph("Squeeze", read_B1D, graph.indices_of(1))
        return graph("Gemm", read_BD, graph.weight(tower.project.weight.t()), graph.weight(tower.project.bias))

    def _read(self, x_BSD: str, normed_BSD: str, p_BD: str) -> tuple[str, str]:
        """Return what the place that is read asks the last block with [B, 1, D], and it normalised."""
        graph, tower = self._graph, self._tower
        x_B1D = graph("GatherND", x_BSD, self._last_B11, batch_dims=1)
        if tower.read_profile is None:
            return x_B1D, graph("GatherND", normed_BSD, self._last_B11, batch_dims=1)
        one_D, zero_D = torch.ones(tower.norm.normalized_shape), torch.zeros(tower.norm.normalized_shape)
        own_BD = self._product(self._normed(p_BD, one_D, zero_D, 1e-5), _centred(tower.read_profile.weight))
        own_B1D = graph("Unsqueeze", own_BD, graph.indices_of(1))
        return self._sum(x_B1D, own_B1D, cast(Sequence[Block], tower.blocks)[-1].attention_norm)

    def _enter(self, z_VD: str, p_BD: str) -> tuple[str, str]:
        """Return what the first block gets [B, S, D], interactions and what stands beside them, and it normalised."""
        graph, tower = self._graph, self._tower
        first, norm = cast(Sequence[Block], tower.blocks)[0].attention_norm, tower.input_norm
        if tower.layout != "side":
            constants = [tower.sep_D, tower.cls_D] if tower.layout == "cls" else []
            x_BSD, position_BSD = self._placed(
                self._normed(z_VD, norm.weight, _centred(norm.bias), norm.eps),
                [self._centred(p_BD)],
                [_centred(each) for each in constants],
                tower.position_TD - tower.position_TD.mean(1, keepdim=True),
            )
            return self._sum(x_BSD, position_BSD, first)
        placed = self._placed(
            self._normed(z_VD, norm.weight, norm.bias, norm.eps), [], [tower.cls_D], tower.position_TD
        )
        x_BSD = self._product(graph("Add", *placed), _centred(tower.side_token.weight))
        beside_BD = self._product(p_BD, _centred(tower.side_profile.weight))
        beside_BSD = graph("Gather", beside_BD, graph.indices("request_BS", "B", "S"))
        return self._sum(x_BSD, beside_BSD, first, _centred(tower.side_token.bias))

    def _placed(
        self, normed_VD: str, profiles: list[str], constants: list[Tensor], position_TD: Tensor
    ) -> tuple[str, str]:
        """Return everything in its place [B, S, D], and the positions to be added, which only interactions have."""
        graph, nothing_1D = self._graph, torch.zeros(1, position_TD.shape[1])
        constant_CD = graph.weight(torch.cat([*(each[None] for each in constants), nothing_1D]))
        x_BSD = graph("Gather", graph("Concat", normed_VD, *profiles, constant_CD, axis=0), self._place_BS)
        positions = graph.weight(torch.cat([position_TD, nothing_1D]))
        return x_BSD, graph("Gather", positions, graph.indices("from_end_BS", "B", "S"))

    def _attend(self, block: Block, normed_BSD: str) -> str:
        """Return what attention gives all places, each of those before it and of itself [B, S, D]."""
        graph = self._graph
        weight = graph.weight(torch.cat([block.query.weight, block.key_value.weight]).t())
        bias = graph.weight(_bias(block))
        return graph("Attention", normed_BSD, weight, bias, domain=CONTRIB, num_heads=block.heads, unidirectional=1)

    def _attend_last(self, block: Block, normed_B1D: str, normed_BSD: str) -> str:
        """Return what attention gives the place that is read [B, 1, D]."""
        graph, inputs = self._graph, [normed_B1D, normed_BSD, normed_BSD]
        weights = [block.query.weight, *block.key_value.weight.chunk(2)]
        qkv = [self._product(each, weight) for each, weight in zip(inputs, weights, strict=True)]
        bias = graph.weight(_bias(block))
        return graph("MultiHeadAttention", *qkv, bias, "", self._seen_B11S, domain=CONTRIB, num_heads=block.heads)

    def _rest(self, block: Block, x_BSD: str, mixed_BSD: str, following: nn.LayerNorm) -> tuple[str, str]:
        """Return a block's output from its input and what attention gave, and it normalised for what follows."""
        graph, up, down = self._graph, block.ffn[0], block.ffn[-1]
        assert isinstance(up, nn.Linear)
        assert isinstance(down, nn.Linear)
        out_BSD = self._product(mixed_BSD, _centred(block.out.weight))
        x_BSD, normed_BSD = self._sum(out_BSD, x_BSD, block.ffn_norm, _centred(block.out.bias))
        hidden = graph("BiasGelu", self._product(normed_BSD, up.weight), graph.weight(up.bias), domain=CONTRIB)
        down_BSD = self._product(hidden, _centred(down.weight))
        return self._sum(down_BSD, x_BSD, following, _centred(down.bias))

    def _sum(self, a_BSD: str, b_BSD: str, norm: nn.LayerNorm, bias: Tensor | None = None) -> tuple[str, str]:
        """Return the sum of two values and a bias, and it normalised; all of mean zero."""
        graph = self._graph
        weights = [graph.weight(each) for each in (norm.weight, norm.bias, *([] if bias is None else [bias]))]
        normed_BSD, _, _, sum_BSD = graph.split(
            "SkipLayerNormalization", 4, a_BSD, b_BSD, *weights, domain=CONTRIB, epsilon=norm.eps
        )
        return sum_BSD, normed_BSD

    def _normed(self, x_VD: str, weight: Tensor, bias: Tensor, eps: float) -> str:
        """Return a value of any mean normalised: as its double, since the operator for sums takes a quarter of the time."""
        graph, centred_VD = self._graph, self._centred(x_VD)
        weights = graph.weight(weight), graph.weight(bias)
        return graph("SkipLayerNormalization", centred_VD, centred_VD, *weights, domain=CONTRIB, epsilon=4 * eps)

    def _centred(self, x_VD: str) -> str:
        """Return a value without its mean over D."""
        mean_V1 = self._graph("ReduceMean", x_VD, self._graph.indices_of(-1), keepdims=1)
        return self._graph("Sub", x_VD, mean_V1)

    def _product(self, x_BSD: str, weight: Tensor) -> str:
        return self._graph("MatMul", x_BSD, self._graph.weight(weight.t()))


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


def _bias(block: Block) -> Tensor:
    return torch.cat([block.query.bias, block.key_value.bias])


def _centred(weight: Tensor) -> Tensor:
    """Return a bias [D], or the weights [D, W] of a layer, such that what it gives has mean zero over D."""
    return weight - weight.mean(0, keepdim=True)


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
def _kept_places(lengths: tuple[int, ...], layout: str) -> Inputs:
    """Return :func:`_places` of a few requests, which is most of what their inputs take to make: many histories are as long."""
    return _places(lengths, layout)


def _places(lengths: Sequence[int], layout: str) -> Inputs:
    """Return where everything stands: the profile first, or what stands for it, in ``cls`` everything else last."""
    length_B1 = np.array(lengths, np.int64)[:, None]
    B, V = len(lengths), sum(lengths)
    before, behind = (0, 3) if layout == "cls" else (1, 0)
    column_S = np.arange(before + max(lengths) + behind)
    interaction_BS = column_S - before
    profile_B1 = V + np.arange(B)[:, None]
    # Behind the interactions and the profiles lies what is the same for all, and then nothing.
    match layout:
        case "prefix":
            place_BS = np.where(column_S == 0, profile_B1, V + B)
        case "side":
            place_BS = np.where(column_S == 0, V, np.full((B, 1), V + 1))
        case _:
            place_BS = np.select(
                [column_S == length_B1, column_S == length_B1 + 1, column_S == length_B1 + 2],
                [V + B, profile_B1, V + B + 1],
                V + B + 2,
            )
    is_interaction_BS = (interaction_BS >= 0) & (interaction_BS < length_B1)
    first_B1 = np.cumsum(length_B1)[:, None] - length_B1
    last_B1 = before + length_B1 + behind - 1
    inputs = {
        "place_BS": np.where(is_interaction_BS, first_B1 + interaction_BS, place_BS),
        # -1 is where the positions end: none.
        "from_end_BS": np.where(is_interaction_BS, length_B1 - 1 - interaction_BS, -1),
        "last_B11": last_B1[:, None],
        "seen_B11S": np.where(column_S <= last_B1, 0, -np.inf).astype(np.float32)[:, None, None],
    }
    if layout == "side":
        inputs["request_BS"] = np.broadcast_to(np.arange(B)[:, None], place_BS.shape).copy()
    return inputs
