"""ONNX graphs of a model: those of the platform, which keep tensors too."""

from typing import Any

import numpy.typing as npt
from torch import Tensor

from rf_platform.onnx_graph import CONTRIB, Inputs, OnnxSession
from rf_platform.onnx_graph import OnnxGraph as PlainGraph

__all__ = ["CONTRIB", "Inputs", "OnnxGraph", "OnnxSession"]


class OnnxGraph(PlainGraph):
    """A graph that is being written from the weights of a model."""

    def weight(self, values: Tensor | npt.NDArray[Any]) -> str:
        """Keep values that never change."""
        return super().weight(values.detach().numpy() if isinstance(values, Tensor) else values)
