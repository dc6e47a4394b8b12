"""Benchmark of the rules of a placement: every kind that it has is measured, and diversity trades likeness for coverage."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rf_bench.rules.command import app

POLICY = """
placements:
  home:
    boosts: [{name: fresh, where: ["item_attributes__release_year>=1993"], offset: 0.1}]
    caps: [{feature: item_attributes__genres, most: 3}]
    diversity: {lambda: 0.7}
    pins: [{item: 5, place: 2}]
"""


@pytest.fixture
def found(in_workspace: Path, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "shop.yaml").write_text(POLICY)
    options = ["--policy", str(tmp_path / "shop.yaml"), "--bundle", "tiny-run-1", "--requests", "10", "--history", "3"]
    trade = ["--lambda", "1", "--lambda", "0.2", "-k", "5", "--output", str(tmp_path)]
    run = CliRunner().invoke(app, [*options, *trade], catch_exceptions=False)
    assert run.exit_code == 0, run.output
    results: dict[str, Any] = json.loads((tmp_path / "rules.json").read_text())["results"]
    return results


def test_kinds_and_trade(found: dict[str, Any]) -> None:
    assert [each["rules"] for each in found["costs"]] == [
        "none",
        "boosts",
        "caps",
        "diversity",
        "pins",
        "all together",
    ]
    assert found["costs"][0]["rules_ms"] == 0 < min(each["rules_ms"] for each in found["costs"][1:])
    plain, diverse = found["trades"]
    assert (plain["trade"], diverse["trade"]) == (1, 0.2)
    assert diverse["likeness"] < plain["likeness"]
    assert 0 < plain["recall"] <= 1
