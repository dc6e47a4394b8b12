"""``rf bench rerank-served`` on a real bundle."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rf_bench.rerank_served.command import app
from rf_platform.errors import UsageError


def test_every_order_is_measured_on_the_promoted_bundle(in_workspace: Path, tmp_path: Path) -> None:
    arguments = [
        "--requests=10",
        "--history=3",
        "--candidates=10",
        "--candidates=20",
        "-k",
        "5",
        f"--output={tmp_path}",
    ]
    run = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert run.exit_code == 0, run.output
    found = json.loads((tmp_path / "rerank-served.json").read_text())["results"]
    assert (found["kind"], found["trained"], found["items"]) == ("lime-mha", False, 60)
    sizes = [(each["order"], each["candidates"]) for each in found["measured"]]
    assert sizes == [(order, count) for count in (10, 20) for order in ("none", "exact", "lime")]
    for each in found["measured"]:
        assert (each["rerank_ms"] > 0) == (each["order"] != "none")
        assert each["total_ms"] >= max(each["encode_ms"], each["search_ms"])
    assert "untrained lime-mha" in (tmp_path / "rerank-served.html").read_text()


def test_an_unknown_re_ranker_is_named(in_workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--kind=lime is no re-ranker; choose lime-mha"):
        CliRunner().invoke(app, ["--kind=lime", f"--output={tmp_path}"], catch_exceptions=False)
