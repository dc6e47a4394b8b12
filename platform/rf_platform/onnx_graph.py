"""Writes small ONNX graphs, node by node, and runs them with ONNX Runtime."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at the import, by versions that would send it

import onnxruntime as ort

OPSET, _IR = 20, 10
"""Version of the standard operators, and of the format."""
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

    def doubles(self, name: str, *shape: int | str | None) -> str:
        """Take float64 values with each run."""
        return self._input(name, TensorProto.DOUBLE, shape)

    def indices(self, name: str, *shape: int | str | None) -> str:
        """Take int64 values with each run."""
        return self._input(name, TensorProto.INT64, shape)

    @property
    def inputs(self) -> frozenset[str]:
        """Names of the values taken so far."""
        return frozenset(each.name for each in self._inputs)

    def weight(self, values: npt.NDArray[Any]) -> str:
        """Keep values that never change."""
        name = self._name()
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
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

    def inline(self, model: onnx.ModelProto, inputs: Sequence[str]) -> list[str]:
        """Add all nodes of another graph, of the same version of the standard operators, and return the names of what it gives.

        Args:
            model: has no operators but the standard ones.
            inputs: the values that it takes, in its order; one that tracing found to be unused is left out there.
        """
        taken = [f"input{n}" for n in range(len(inputs))]
        graph = compose.add_prefix(model, f"{self._name()}/").graph
        given = dict(zip(taken, inputs, strict=True))
        for each in graph.input:
            self._nodes.append(helper.make_node("Identity", [given[each.name.rpartition("/")[2]]], [each.name]))
        self._nodes.extend(graph.node)
        self._weights.extend(graph.initializer)
        return [each.name for each in graph.output]

    def session(self, outputs: Sequence[str]) -> "OnnxSession":
        """Return what computes these values."""
        graph = helper.make_graph(
            self._nodes,
            "graph",
            self._inputs,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self._weights,
        )
        domains = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return OnnxSession(helper.make_model(graph, opset_imports=domains, ir_version=_IR), outputs)

    def _input(self, name: str, kind: int, shape: Sequence[int | str | None]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count}"


class OnnxSession:
    """Computes a graph on the CPU, in the thread that asks; safe from several threads at once."""

    def __init__(self, model: "onnx.ModelProto | Path", outputs: Sequence[str] = ()) -> None:
        """Open a graph.

        Args:
            model: the graph, or a file with one; weights beside the file are found.
            outputs: names of the values that are wanted; default: all that the graph gives.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # shapes differ from run to run
        options.log_severity_level = 3
        graph = str(model) if isinstance(model, Path) else model.SerializeToString()
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.inputs = [each.name for each in self._session.get_inputs()]
        """Names of the values that the graph takes."""
        self.outputs = list(outputs) or [each.name for each in self._session.get_outputs()]

    def __call__(self, inputs: Inputs, *, only_first: bool = False) -> list[npt.NDArray[np.float32]]:
        """Return the outputs, in order, or the first one alone."""
        wanted = self.outputs[:1] if only_first else self.outputs
        found: list[npt.NDArray[np.float32]] = self._session.run(wanted, inputs)
        return found
