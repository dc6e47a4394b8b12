"""Blocks of the user tower as they are served: how each kind mixes tokens.

Shapes: B requests, V interactions of all requests, S places of a request, P most places, N taps, D width, H heads, E width of a
head, A = H * D.
"""

from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from rf_training.model.blocks import Block
from rf_training.model.blocks.filter import FilterBlock
from rf_training.model.blocks.hstu import TIME_KNOTS, HstuBlock
from rf_training.model.blocks.transformer import TransformerBlock
from rf_training.model.served.onnx_graph import CONTRIB, OnnxGraph

FLOAT, INT64 = 1, 7
"""Types that a cast in a graph is to."""


class BlockForm(ABC):
    """Writer of :meth:`Block.mix` into a graph, which takes the place that is read as ``last_B11``."""

    def __init__(self, graph: OnnxGraph, timed: bool) -> None:
        """Write what all blocks of the tower have in common.

        Args:
            graph: of the tower.
            timed: whether interactions have times, given as ``seconds_V`` and, where each place has its own, ``moment_BS``.
        """
        self._graph = graph

    @abstractmethod
    def mix(self, block: Block, normed_BSD: str) -> str:
        """Return what all places get, each of those before it and of itself [B, S, D]."""

    @abstractmethod
    def mix_last(self, block: Block, normed_B1D: str, normed_BSD: str) -> str:
        """Return what the place that is read gets [B, 1, D]."""


class TransformerForm(BlockForm):
    """Attention by the fused operators of ONNX Runtime."""

    def mix(self, block: Block, normed_BSD: str) -> str:
        """Return what attention gives all places."""
        graph, block = self._graph, cast(TransformerBlock, block)
        weight = graph.weight(torch.cat([block.query.weight, block.key_value.weight]).t())
        bias = graph.weight(_bias(block))
        return graph("Attention", normed_BSD, weight, bias, domain=CONTRIB, num_heads=block.heads, unidirectional=1)

    def mix_last(self, block: Block, normed_B1D: str, normed_BSD: str) -> str:
        """Return what attention gives the place that is read.

        One place asks: instead of keys and values of all places, its query is multiplied by the weights of the keys, and what it
        attends to, weighted, by those of the values. The keys' bias adds the same to all scores, the values' to every mean.
        """
        graph, block = self._graph, cast(TransformerBlock, block)
        H, (D, E) = block.heads, (block.query.in_features, block.query.out_features // block.heads)
        queries_HED = block.query.weight.view(H, E, D)
        keys_HED, values_HED = (half.view(H, E, D) for half in block.key_value.weight.chunk(2))
        ask_DA = torch.einsum("hed,hec->chd", keys_HED, queries_HED).reshape(D, H * D) / E**0.5
        bias_A = torch.einsum("hed,he->hd", keys_HED, block.query.bias.view(H, E)).reshape(-1) / E**0.5
        asked_B1A = graph("Add", graph("MatMul", normed_B1D, graph.weight(ask_DA)), graph.weight(bias_A))
        asked_BHD = graph("Reshape", asked_B1A, graph.indices_of(0, H, D))
        score_BHS = graph("FusedMatMul", asked_BHD, normed_BSD, domain=CONTRIB, transB=1)
        seen_B1S = graph("Squeeze", graph.numbers("seen_B11S", "B", 1, 1, "S"), graph.indices_of(1))
        share_BHS = graph("Softmax", graph("Add", score_BHS, seen_B1S), axis=-1)
        mixed_B1A = graph("Reshape", graph("MatMul", share_BHS, normed_BSD), graph.indices_of(0, 1, H * D))
        value_AD = torch.block_diag(*values_HED).t()  # type: ignore[no-untyped-call]
        values_B1D = graph("MatMul", mixed_B1A, graph.weight(value_AD))
        return graph("Add", values_B1D, graph.weight(block.key_value.bias.chunk(2)[1]))


class HstuForm(BlockForm):
    """Pointwise attention: biases by distance are tables of all places, of which a request takes the first."""

    def __init__(self, graph: OnnxGraph, timed: bool) -> None:
        """Write log(1 + seconds) between all places, as a knot and the part behind it."""
        super().__init__(graph, timed)
        self._knots = self._from_knots(graph) if timed else None

    def mix(self, block: Block, normed_BSD: str) -> str:
        """Return the gated sum of each place."""
        graph, block = self._graph, cast(HstuBlock, block)
        weight, bias = (_joined(block, name) for name in ("weight", "bias"))
        u, q, k, v = graph.split("Split", 4, self._silu(normed_BSD, weight, bias), axis=-1, num_outputs=4)
        bias_HSS = self._first(self._first(graph.weight(_distance_bias(block)), normed_BSD, 1), normed_BSD, 2)
        share_SS = self._first(self._first(graph.weight(_shares(block)), normed_BSD, 0), normed_BSD, 1)
        if self._knots is not None:
            bias_HSS = graph("Add", bias_HSS, self._time_bias(block, *self._knots))
        return self._mixed(block, u, [q, k, v], bias_HSS, share_SS)

    def mix_last(self, block: Block, normed_B1D: str, normed_BSD: str) -> str:
        """Return the gated sum of the place that is read."""
        graph, block = self._graph, cast(HstuBlock, block)
        gate_query, key_value = block.gate_query, block.key_value
        u, q = graph.split(
            "Split", 2, self._silu(normed_B1D, gate_query.weight, gate_query.bias), axis=-1, num_outputs=2
        )
        k, v = graph.split("Split", 2, self._silu(normed_BSD, key_value.weight, key_value.bias), axis=-1, num_outputs=2)
        last_B1 = graph("Squeeze", "last_B11", graph.indices_of(2))
        rows = graph.weight(_distance_bias(block).transpose(0, 1)), graph.weight(_shares(block)[:, None])
        # Of each request, the row of the place that is read: [B, 1, H or 1, P], and the places there are.
        bias, share = (self._first(graph("Gather", table, last_B1, axis=0), normed_BSD, 3) for table in rows)
        bias_BH1S, share_B11S = (graph("Transpose", each, perm=[0, 2, 1, 3]) for each in (bias, share))
        if self._knots is not None:
            asked = [graph("GatherND", each, "last_B11", batch_dims=1) for each in self._knots]
            bias_BH1S = graph("Add", bias_BH1S, self._time_bias(block, *asked))
        return self._mixed(block, u, [q, k, v], bias_BH1S, share_B11S)

    def _mixed(self, block: HstuBlock, u_BQD: str, qkv: list[str], bias: str, share: str) -> str:
        graph = self._graph
        heads = graph.indices_of(0, 0, block.heads, -1)
        order = [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]]
        q, k, v = (graph("Transpose", graph("Reshape", x, heads), perm=p) for x, p in zip(qkv, order, strict=True))
        score = graph("Add", graph("MatMul", q, k), bias)
        weight = graph("Mul", graph("QuickGelu", score, domain=CONTRIB, alpha=1.0), share)
        mixed_BQHE = graph("Transpose", graph("MatMul", weight, v), perm=[0, 2, 1, 3])
        norm = block.mixed_norm
        mixed_BQD = graph("Reshape", mixed_BQHE, graph.indices_of(0, 0, -1))
        weights = graph.weight(norm.weight), graph.weight(norm.bias)
        return graph("Mul", graph("LayerNormalization", mixed_BQD, *weights, axis=-1, epsilon=norm.eps), u_BQD)

    def _silu(self, x_BSD: str, weight: Tensor, bias: Tensor) -> str:
        graph = self._graph
        product = graph("Add", graph("MatMul", x_BSD, graph.weight(weight.t())), graph.weight(bias))
        return graph("QuickGelu", product, domain=CONTRIB, alpha=1.0)

    def _first(self, table: str, normed_BSD: str, axis: int) -> str:
        """Return as many entries of an axis as a request has places."""
        graph = self._graph
        places = graph("Slice", graph("Shape", normed_BSD), graph.indices_of(1), graph.indices_of(2))
        return graph("Slice", table, graph.indices_of(0), places, graph.indices_of(axis))

    @staticmethod
    def _from_knots(graph: OnnxGraph) -> tuple[str, str]:
        """Return the knot before each log(1 + seconds) [B, S, S], and the part of the way to the next."""
        at_BS = graph("Gather", graph.doubles("seconds_V", "V"), graph.indices("moment_BS", "B", "S"))
        rows, columns = (graph("Unsqueeze", at_BS, graph.indices_of(axis)) for axis in (2, 1))
        seconds = graph("Relu", graph("Cast", graph("Sub", rows, columns), to=FLOAT))
        log = graph("Log", graph("Add", seconds, graph.weight(torch.tensor(1.0))))
        log = graph("Min", log, graph.weight(torch.tensor(TIME_KNOTS - 1.001)))
        return graph("Cast", log, to=INT64), graph("Sub", log, graph("Floor", log))

    def _time_bias(self, block: HstuBlock, knot: str, part: str) -> str:
        """Return the bias by time, for all heads: that of the knot before and a part of the step to the next."""
        graph, bias_K = self._graph, block.time_bias
        low = graph("Gather", graph.weight(bias_K), knot)
        step = graph("Gather", graph.weight(F.pad(bias_K.diff(), (0, 1))), knot)
        bias = graph("Add", low, graph("Mul", part, step))
        return graph("Unsqueeze", bias, graph.indices_of(1))


class FilterForm(BlockForm):
    """Filters in time: a convolution for all places, a weighted sum for the one that is read."""

    def mix(self, block: Block, normed_BSD: str) -> str:
        """Return the filtered places."""
        graph, taps_ND = self._graph, cast(FilterBlock, block).kernel
        N, D = taps_ND.shape
        kernel_D1N = graph.weight(taps_ND.flip(0).t()[:, None])
        x_BDS = graph("Transpose", normed_BSD, perm=[0, 2, 1])
        return graph("Transpose", graph("Conv", x_BDS, kernel_D1N, group=D, pads=[N - 1, 0]), perm=[0, 2, 1])

    def mix_last(self, block: Block, normed_B1D: str, normed_BSD: str) -> str:
        """Return the place that is read, filtered."""
        graph, taps_ND = self._graph, cast(FilterBlock, block).kernel
        # By how far a place lies back: nothing of the place itself, which asks by another value, nor of later ones, which are
        # found from the end of the table.
        past = graph.weight(F.pad(taps_ND[1:], (0, 0, 1, len(taps_ND))))
        zero, one = (graph.weight(torch.tensor(n)) for n in (0, 1))
        places = graph("Gather", graph("Shape", normed_BSD), one)
        back_BS = graph("Sub", graph("Squeeze", "last_B11", graph.indices_of(2)), graph("Range", zero, places, one))
        weighed = graph("Mul", graph("Gather", past, back_BS), normed_BSD)
        own_B1D = graph("Mul", normed_B1D, graph.weight(taps_ND[0]))
        return graph("Add", graph("ReduceSum", weighed, graph.indices_of(1), keepdims=1), own_B1D)


class AttentiveFilterForm(TransformerForm, FilterForm):
    """Attention and filters, added up."""

    def mix(self, block: Block, normed_BSD: str) -> str:
        """Return what attention and filters give all places."""
        return self._graph("Add", TransformerForm.mix(self, block, normed_BSD), FilterForm.mix(self, block, normed_BSD))

    def mix_last(self, block: Block, normed_B1D: str, normed_BSD: str) -> str:
        """Return what attention and filters give the place that is read."""
        each = [form.mix_last(self, block, normed_B1D, normed_BSD) for form in (TransformerForm, FilterForm)]
        return self._graph("Add", *each)


FORMS: dict[str, type[BlockForm]] = {
    "transformer": TransformerForm,
    "hstu": HstuForm,
    "filter": FilterForm,
    "attentive-filter": AttentiveFilterForm,
}
"""Served form of every user tower by name."""


def _bias(block: TransformerBlock) -> Tensor:
    return torch.cat([block.query.bias, block.key_value.bias])


def _joined(block: HstuBlock, name: str) -> Tensor:
    return torch.cat([cast(Tensor, getattr(layer, name)) for layer in (block.gate_query, block.key_value)])


def _distance_bias(block: HstuBlock) -> Tensor:
    """Return the bias by distance of every place that asks and every place that is seen [H, P, P]."""
    place_P = torch.arange(block.bias_by_distance.shape[1])
    return block.bias_by_distance[:, (place_P[:, None] - place_P).clamp(min=0)]


def _shares(block: HstuBlock) -> Tensor:
    """Return the share of every place that is seen, for every place that asks; [P, P]; 0 of later ones."""
    P = block.bias_by_distance.shape[1]
    return torch.ones(P, P).tril() / torch.arange(1, P + 1)[:, None]
