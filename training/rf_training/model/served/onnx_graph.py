"""Writes small ONNX graphs, node by node, and runs them with ONNX Runtime."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at the import, by versions that would send it

import onnxruntime as ort

_OPSET, _IR = 20, 10
CONTRIB = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""
Inputs = dict[str, npt.NDArray[Any]]
"""Values that a graph takes with each run, by name."""


class OnnxGraph:
    """A graph that is being written: values are named, and calling it adds a node and names what the node gives.

    ``graph("Add", a, b)`` is the sum of two values.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def numbers(self, name: str, *shape: int | str | None) -> str:
        """Take float32 values with each run; a text or None stands for any size."""
        return self._input(name, TensorProto.FLOAT, shape)

    def indices(self, name: str, *shape: int | str | None) -> str:
        """Take int64 values with each run."""
        return self._input(name, TensorProto.INT64, shape)

    def weight(self, values: Tensor | npt.NDArray[Any]) -> str:
        """Keep values that never change."""
        array = values.detach().numpy() if isinstance(values, Tensor) else values
        name = self._name()
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def indices_of(self, *values: int) -> str:
        """Keep integers that never change, such as axes."""
        return self.weight(np.array(values, np.int64))

    def __call__(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node and return the name of what it gives; an input that is left out is an empty text."""
        (name,) = self.split(operator, 1, *inputs, domain=domain, **attributes)
        return name

    def split(self, operator: str, outputs: int, *inputs: str, domain: str = "", **attributes: Any) -> list[str]:
        """Add a node with several outputs and return their names."""
        names = [self._name() for _ in range(outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, domain=domain, **attributes))
        return names

    def session(self, outputs: Sequence[str]) -> "OnnxSession":
        """Return what computes these values."""
        graph = helper.make_graph(
            self._nodes,
            "graph",
            self._inputs,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self._weights,
        )
        domains = [helper.make_opsetid("", _OPSET), helper.make_opsetid(CONTRIB, 1)]
        return OnnxSession(helper.make_model(graph, opset_imports=domains, ir_version=_IR), outputs)

    def _input(self, name: str, kind: int, shape: Sequence[int | str | None]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count}"


class OnnxSession:
    """Computes a graph on the CPU, in the thread that asks; safe from several threads at once."""

    def __init__(self, model: onnx.ModelProto, outputs: Sequence[str]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # shapes differ from run to run
        options.log_severity_level = 3
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._outputs = list(outputs)

    def __call__(self, inputs: Inputs) -> list[npt.NDArray[np.float32]]:
        """Return the outputs, in order."""
        found: list[npt.NDArray[np.float32]] = self._session.run(self._outputs, inputs)
        return found
