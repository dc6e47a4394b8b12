"""Fusions as they are served.

Shapes: R rows, F features that are looked up, N dense inputs, D width, E = D + 1.
"""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from rf_platform.features.spec import Side
from rf_training.model.served.folded_tokens import FoldedTokens
from rf_training.model.served.onnx_graph import OnnxGraph

FusionForm = Callable[[OnnxGraph, Side, FoldedTokens, str | None, Tensor], str]
"""Writer of a fusion of one side's tokens into a graph, which gets them by :meth:`FoldedTokens.inputs`.

Its arguments are the graph, the side, the tokens, one more token that comes first and is always present [R, D] or None, and the
vector of a row without any. It returns the name of the fused vectors [R, D].
"""


def write_mean(graph: OnnxGraph, side: Side, folded: FoldedTokens, first_RD: str | None, empty_D: Tensor) -> str:
    """Write the mean of the tokens that are present: they are added up as they are looked up."""
    parts: list[str] = []
    if (table_VE := folded.sum_table_VE) is not None:
        token_RFE = graph("Gather", graph.weight(table_VE), graph.indices(f"{side}_ids", None, None))
        parts.append(graph("ReduceSum", token_RFE, graph.indices_of(1), keepdims=0))
    if (dense_NE := folded.sum_dense_NE) is not None:
        dense_RN = graph.numbers(f"{side}_dense", None, len(dense_NE))
        parts.append(graph("MatMul", dense_RN, graph.weight(dense_NE)))
    sum_RE = parts[0] if len(parts) == 1 else graph("Add", *parts)
    sum_RD, count_R1 = graph.split("Split", 2, sum_RE, graph.indices_of(folded.dim, 1), axis=1)
    one, zero = (graph.weight(np.array(value, np.float32)) for value in (1, 0))
    if first_RD is not None:
        return graph("Div", graph("Add", sum_RD, first_RD), graph("Add", count_R1, one))
    mean_RD = graph("Div", sum_RD, graph("Max", count_R1, one))
    return graph("Where", graph("Greater", count_R1, zero), mean_RD, graph.weight(empty_D))


FORMS: dict[str, FusionForm | None] = {
    "mean": write_mean,
    "attention": None,
    "attention-pool": None,
    "cross-attention": None,
    "concat": None,
}
"""Served form of every fusion by name; None: training's own module computes it, in front of the graph."""
