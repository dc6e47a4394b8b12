"""ONNX Runtime computes what is written, and keeps to itself what it computes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from rf_training.model.served.onnx_graph import OnnxGraph


def test_a_graph_computes_its_outputs_from_inputs_and_weights() -> None:
    graph = OnnxGraph()
    x_RD, row_B = graph.numbers("x_RD", "R", 2), graph.indices("row_B", None)
    sum_BD = graph("Add", graph("Gather", x_RD, row_B), graph.weight(np.array([1, 10], np.float32)))
    first_B1, second_B1 = graph.split("Split", 2, sum_BD, graph.indices_of(1, 1), axis=1)
    session = graph.session([second_B1, first_B1, sum_BD])
    for rows in ([2, 0], [1], []):
        x = np.arange(6, dtype=np.float32).reshape(3, 2)
        second, first, both = session({"x_RD": x, "row_B": np.array(rows, np.int64)})
        expected = x[rows] + np.array([1, 10], np.float32)
        np.testing.assert_array_equal(both, expected)
        np.testing.assert_array_equal(np.hstack([first, second]), expected)


def test_nothing_is_sent_or_kept_in_the_home_directory(tmp_path: Path) -> None:
    """Some versions of ONNX Runtime open a database of events to send when they are imported."""
    script = """
import os, numpy as np
from rf_training.model.served.onnx_graph import OnnxGraph
graph = OnnxGraph()
x = graph.numbers("x", None)
graph.session([graph("Add", x, x)])({"x": np.ones(3, np.float32)})
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    paths = os.pathsep.join(path for path in sys.path if path)
    subprocess.run(
        [sys.executable, "-c", script], env={**environment, "HOME": str(tmp_path), "PYTHONPATH": paths}, check=True
    )
    assert list(tmp_path.iterdir()) == []
