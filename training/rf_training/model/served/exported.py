"""Blocks of other packages as they are served: their mixing is traced, exported to ONNX and written into the tower's graph.

Shapes: B requests, V interactions of all requests, S places of a request, D width.
"""

import io
import warnings
from contextlib import redirect_stdout

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from rf_platform.errors import ConfigError
from rf_platform.onnx_graph import OPSET
from rf_training.model.blocks import Block, Sight
from rf_training.model.served.blocks import FLOAT, BlockForm
from rf_training.model.served.onnx_graph import OnnxGraph

TOLERANCE = 1e-3
"""Largest difference of numbers around 1 between a block and its graph."""


class ExportedForm(BlockForm):
    """Form of any block that PyTorch can trace; compared with the block before it is used."""

    def __init__(self, graph: OnnxGraph, timed: bool) -> None:
        """Write the time between all places, where the tower reads it."""
        super().__init__(graph, timed)
        self._log_seconds_BSS = _log_seconds(graph) if timed else None

    def mix(self, block: Block, normed_BSD: str) -> str:
        """Return what all places get [B, S, D]."""
        asked = [normed_BSD] if self._log_seconds_BSS is None else [normed_BSD, self._log_seconds_BSS]
        return self._inlined(_Mix(block), asked)

    def mix_last(self, block: Block, normed_B1D: str, normed_BSD: str) -> str:
        """Return what the place that is read gets [B, 1, D]."""
        asked = [normed_B1D, normed_BSD, "last_B11"]
        if self._log_seconds_BSS is not None:
            asked.append(self._graph("GatherND", self._log_seconds_BSS, "last_B11", batch_dims=1))
        return self._inlined(_MixLast(block), asked)

    def _inlined(self, part: "_Mix | _MixLast", inputs: list[str]) -> str:
        (out,) = self._graph.inline(_exported(part, timed=self._log_seconds_BSS is not None), inputs)
        return out


class _Mix(nn.Module):
    """A block's mixing for all places."""

    open_axes = ((0, 1), (0, 1, 2))
    """Axes of each input that have another size with each run."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, normed_BSD: Tensor, log_seconds_BSS: Tensor | None = None) -> Tensor:
        sight = Sight.causal(normed_BSD.shape[1], log_seconds_BQT=log_seconds_BSS)
        return self.block.mix(normed_BSD, normed_BSD, sight)

    def example(self, requests: int, places: int, timed: bool) -> tuple[Tensor, ...]:
        """Return random inputs."""
        x_BSD = torch.randn(requests, places, self.block.out.in_features)
        return (x_BSD, torch.rand(requests, places, places)) if timed else (x_BSD,)


class _MixLast(nn.Module):
    """A block's mixing for the place that is read."""

    open_axes = ((0,), (0, 1), (0,), (0, 2))
    """Axes of each input that have another size with each run."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(
        self, normed_B1D: Tensor, normed_BSD: Tensor, last_B11: Tensor, log_seconds_B1S: Tensor | None = None
    ) -> Tensor:
        place_1S = torch.arange(normed_BSD.shape[1])[None]
        sight = Sight(last_B11.squeeze(2), place_1S, (place_1S <= last_B11).unsqueeze(1), log_seconds_B1S)
        return self.block.mix(normed_B1D, normed_BSD, sight)

    def example(self, requests: int, places: int, timed: bool) -> tuple[Tensor, ...]:
        """Return random inputs, with padding behind all requests but one."""
        width = self.block.out.in_features
        last_B11 = torch.arange(places - 1, places - 1 - requests, -1).clamp(min=0)[:, None, None]
        asked = (torch.randn(requests, 1, width), torch.randn(requests, places, width), last_B11)
        return (*asked, torch.rand(requests, 1, places)) if timed else asked


def _exported(part: _Mix | _MixLast, timed: bool) -> onnx.ModelProto:
    """Return the graph of a part.

    Raises:
        ConfigError: the block cannot be exported, or its graph gives other numbers.
    """
    kind = type(part.block).__name__
    # Numbers to trace and to compare with are drawn apart: opening a bundle changes no random state.
    # Tracing sees no sizes in inference mode.
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        asked = part.example(3, min(7, part.block.places), timed)
        names = [f"input{n}" for n in range(len(asked))]
        axes = {
            name: {axis: f"{name}_{axis}" for axis in open_axes}
            for name, open_axes in zip(names, part.open_axes, strict=False)
        }
        file = io.BytesIO()
        try:
            # The exporter prints the graph where it fails.
            with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
                warnings.simplefilter(
                    "ignore"
                )  # of tracing, and that another exporter is preferred: the graph is compared
                torch.onnx.export(
                    part.eval(),
                    asked,
                    file,  # type: ignore[arg-type]  # in this form it takes what can be written to
                    input_names=names,
                    output_names=["mixed"],
                    dynamic_axes=axes,
                    opset_version=OPSET,
                    dynamo=False,
                )
        except Exception as error:  # whatever a block of another package does
            raise ConfigError(
                f"the block {kind} cannot be exported to ONNX ({type(error).__name__}: {' '.join(str(error).split())[:300]}); "
                f"write its mix() with operations that torch.onnx.export can trace"
            ) from error
        model = onnx.load_from_string(file.getvalue())
        for requests, places in ((1, 1), (2, part.block.places)):
            asked = part.example(requests, places, timed)
            graph = OnnxGraph()
            given = [_input(graph, each, tensor) for each, tensor in zip(names, asked, strict=True)]
            session = graph.session(graph.inline(model, given))
            (found,) = session(
                {key: tensor.numpy() for key, tensor in zip(names, asked, strict=True) if key in session.inputs}
            )
            wanted = part(*asked).numpy()
            if found.shape != wanted.shape or not np.allclose(found, wanted, atol=TOLERANCE, rtol=TOLERANCE):
                raise ConfigError(
                    f"the block {kind} gives other numbers as a graph than as a module, for {requests} requests of {places} "
                    f"places: its mix() depends on sizes or values in a way that tracing freezes; write it without Python "
                    f"branches and loops over them"
                )
    return model


def _input(graph: OnnxGraph, name: str, tensor: Tensor) -> str:
    take = graph.numbers if tensor.is_floating_point() else graph.indices
    return take(name, *[None] * tensor.dim())


def _log_seconds(graph: OnnxGraph) -> str:
    """Write log(1 + seconds) from what is seen to what is computed [B, S, S]; 0 where it is later."""
    at_BS = graph("Gather", graph.doubles("seconds_V", "V"), graph.indices("moment_BS", "B", "S"))
    rows, columns = (graph("Unsqueeze", at_BS, graph.indices_of(axis)) for axis in (2, 1))
    seconds = graph("Relu", graph("Cast", graph("Sub", rows, columns), to=FLOAT))
    return graph("Log", graph("Add", seconds, graph.weight(torch.tensor(1.0))))
