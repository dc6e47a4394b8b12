"""A BERT as an ONNX graph, written from its weights.

Shapes: T texts of L tokens each, H hidden width, I inner width.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.onnx_graph import CONTRIB, OnnxGraph, OnnxSession

Weights = Mapping[str, npt.NDArray[np.float32]]


def bert_session(weights: Weights, config: Mapping[str, Any]) -> OnnxSession:
    """Return what computes the vectors of tokens [T, L, H] from ``input_ids`` [T, L], all of them tokens of the text.

    Texts of one length are encoded together, so there is no padding and no mask, and a text's vector does not depend on others.

    Args:
        weights: float32 by the names of Hugging Face's ``BertModel``.
        config: its ``num_attention_heads``, ``num_hidden_layers`` and ``layer_norm_eps``.

    Raises:
        KeyError: a weight or a setting is missing.
    """
    prefix = "bert." if "bert.embeddings.word_embeddings.weight" in weights else ""
    epsilon, heads = float(config.get("layer_norm_eps", 1e-12)), int(config["num_attention_heads"])
    graph = OnnxGraph()

    def weight(name: str) -> npt.NDArray[np.float32]:
        return weights[prefix + name]

    def norm(name: str) -> tuple[str, str]:
        return graph.weight(weight(f"{name}.weight")), graph.weight(weight(f"{name}.bias"))

    def output(name: str, x_TLI: str, before_TLH: str) -> str:
        """Project, add what was there before, and normalise."""
        return graph(
            "SkipLayerNormalization",
            graph("MatMul", x_TLI, graph.weight(weight(f"{name}.dense.weight").T)),
            before_TLH,
            *norm(f"{name}.LayerNorm"),
            graph.weight(weight(f"{name}.dense.bias")),
            domain=CONTRIB,
            epsilon=epsilon,
        )

    ids_TL = graph.indices("input_ids", None, None)
    length = graph("Slice", graph("Shape", ids_TL), graph.indices_of(1), graph.indices_of(2))
    places = weight("embeddings.position_embeddings.weight") + weight("embeddings.token_type_embeddings.weight")[0]
    words_TLH = graph("Gather", graph.weight(weight("embeddings.word_embeddings.weight")), ids_TL)
    places_LH = graph("Slice", graph.weight(places), graph.indices_of(0), length)
    x_TLH = graph(
        "LayerNormalization",
        graph("Add", words_TLH, places_LH),
        *norm("embeddings.LayerNorm"),
        axis=-1,
        epsilon=epsilon,
    )
    for number in range(int(config["num_hidden_layers"])):
        layer = f"encoder.layer.{number}"
        parts = [f"{layer}.attention.self.{part}" for part in ("query", "key", "value")]
        attended_TLH = graph(
            "Attention",
            x_TLH,
            graph.weight(np.concatenate([weight(f"{part}.weight").T for part in parts], axis=1)),
            graph.weight(np.concatenate([weight(f"{part}.bias") for part in parts])),
            domain=CONTRIB,
            num_heads=heads,
        )
        x_TLH = output(f"{layer}.attention.output", attended_TLH, x_TLH)
        inner_TLI = graph("MatMul", x_TLH, graph.weight(weight(f"{layer}.intermediate.dense.weight").T))
        inner_TLI = graph(
            "BiasGelu", inner_TLI, graph.weight(weight(f"{layer}.intermediate.dense.bias")), domain=CONTRIB
        )
        x_TLH = output(f"{layer}.output", inner_TLI, x_TLH)
    return graph.session([x_TLH])
