"""Medians, shares and ratios, by hand."""

from typing import Any

import pytest

from rf_bench.train.rig import PARTS
from rf_bench.train.summary import speed_ratio, throughput


def round_of(wall: float, sequences: int = 10, loading: float = 0.1, steps: int = 2) -> dict[str, Any]:
    parts = dict.fromkeys(PARTS, 0.0) | {"loading": loading, "backward": wall - loading}
    return {
        "steps": steps,
        "wall": wall,
        "cpu": 2 * wall,
        "sequences": sequences,
        "events": 3 * sequences,
        "parts": parts,
    }


def rank(rounds: dict[str, list[dict[str, Any]]], peak: int = 100, moving: float | None = None) -> dict[str, Any]:
    told = {} if moving is None else {name: dict.fromkeys(PARTS, 0.0) | {"backward": moving} for name in rounds}
    return {"rounds": rounds, "peak_bytes": peak, "communication": told, "tables": {}}


def test_one_process_is_summed_up_by_its_middle_round() -> None:
    found = throughput("a", [[rank({"a": [round_of(1.0), round_of(4.0), round_of(2.0, loading=0.5)]})]])
    assert (found.step_seconds, found.cpu_seconds) == (1.0, 2.0)
    assert (found.sequences_per_second, found.events_per_second) == (5.0, 15.0)
    assert found.shares["loading"] == pytest.approx(0.1)
    assert found.shares["communication"] == 0


def test_of_several_processes_the_slowest_decides_and_work_adds_up() -> None:
    ranks = [rank({"a": [round_of(1.0)]}, 100, 0.5), rank({"a": [round_of(2.0, sequences=6)]}, 300, 0.5)]
    found = throughput("a", [ranks])
    assert (found.processes, found.step_seconds, found.cpu_seconds, found.peak_bytes) == (2, 1.0, 3.0, 300)
    assert found.sequences_per_second == 8.0
    backward = (0.9 + 1.9) / 2 / 2.0
    assert found.shares["communication"] == pytest.approx(0.5 * backward)
    assert found.shares["backward"] == pytest.approx(0.5 * backward)


def test_a_ratio_is_of_rounds_that_took_turns() -> None:
    both = [
        rank({"a": [round_of(1.0), round_of(1.0), round_of(8.0)], "b": [round_of(2.0), round_of(3.0), round_of(4.0)]})
    ]
    assert speed_ratio("a", "b", [(both, both)]) == {"median": 2.0, "least": 0.5, "most": 3.0, "cpu": 2.0}
