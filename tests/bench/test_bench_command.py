"""`rf bench`: a table of benchmarks that are imported when they are run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rf_bench.commands import BENCHMARKS
from rf_platform.cli.app import app

DOCS = Path(__file__).parents[2] / "docs"


def python(code: str, *arguments: str, path: list[str] = sys.path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that sees what this one does, or what a ``path`` has."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path)), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_benchmark_loads_and_none_is_heavy() -> None:
    done = python("""
import importlib, sys, typer
from rf_bench.commands import BENCHMARKS
for name, entry in BENCHMARKS.items():
    module, attribute = entry.target.split(":")
    benchmark = getattr(importlib.import_module(module), attribute)
    assert len(benchmark.registered_commands) == 1, name
    heavy = {"torch", "feast", "faiss", "matplotlib"} & set(sys.modules)
    assert not heavy, f"{name} imports {heavy}"
""")
    assert done.returncode == 0, done.stderr


# As it is after `make demo` and after the installation of a wheel: the directory of the benchmarks is on no path.
WITHOUT = """
import sys
from pathlib import Path
from rf_platform.cli import main
sys.path = [place for place in sys.path if not Path(place, "rf_bench").is_dir()]
main()
"""


def test_without_the_development_set_it_is_not_listed() -> None:
    assert " bench " in python("from rf_platform.cli import main; main()", "--help").stdout
    done = python(WITHOUT, "--help")
    assert done.returncode == 0, done.stderr
    assert " doctor " in done.stdout
    assert "bench" not in done.stdout


@pytest.mark.parametrize("arguments", [[], ["--help"], ["latency"], ["latency", "--sizes", "10k"]])
def test_without_the_development_set_it_says_how_to_get_it(arguments: list[str]) -> None:
    done = python(WITHOUT, "bench", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: 'bench' is not installed: benchmarks belong to the development set; run `make install` in a checkout of the "
        "repository"
    ]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_figures_have_a_place_in_the_documents(name: str) -> None:
    page, _, section = BENCHMARKS[name].figures.partition("#")
    text = (DOCS / page).read_text()
    assert f"rf bench {name}" in text
    headings = [line.lstrip("# ").lower().replace(" ", "-") for line in text.splitlines() if line.startswith("#")]
    assert not section or section in headings


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
