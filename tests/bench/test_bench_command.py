"""`rf bench`: a table of benchmarks that are imported when they are run."""

import subprocess
import sys

from typer.testing import CliRunner

from rf_bench.commands import BENCHMARKS
from rf_platform.cli.app import app


def test_every_benchmark_loads_and_none_is_heavy() -> None:
    code = """
import importlib, sys, typer
from rf_bench.commands import BENCHMARKS
for name, entry in BENCHMARKS.items():
    module, attribute = entry.target.split(":")
    benchmark = getattr(importlib.import_module(module), attribute)
    assert len(benchmark.registered_commands) == 1, name
    heavy = {"torch", "feast", "faiss", "matplotlib"} & set(sys.modules)
    assert not heavy, f"{name} imports {heavy}"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_all_are_listed() -> None:
    text = CliRunner().invoke(app, ["bench", "--help"], terminal_width=200).output
    for name, entry in BENCHMARKS.items():
        assert name in text
        assert entry.summary[:20] in text


def test_one_is_run_by_name() -> None:
    text = CliRunner().invoke(app, ["bench", "latency", "--help"], terminal_width=200).output
    assert "--sizes" in text
    assert "IVF-PQ" in text


def test_a_mistyped_name_is_corrected() -> None:
    result = CliRunner().invoke(app, ["bench", "latncy"])
    assert result.exit_code == 2
    assert "latency" in result.output
