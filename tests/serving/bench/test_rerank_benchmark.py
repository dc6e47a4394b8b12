"""The cost of re-ranking: what is measured, what is left out, and the ratios."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from rf_bench.rerank.command import app
from rf_bench.rerank.measure import PARTS, Contender, Measured, measure
from rf_bench.rerank.options import KINDS, RerankBenchOptions, powers
from rf_bench.rerank.summary import ratios, tables, verdict
from rf_platform.errors import UsageError
from rf_training.rerank import RerankConfig, make_ranker

TINY = {"candidates": 128, "history": 128, "items": 200, "dim": 8, "rounds": 1}


def test_every_re_ranker_is_measured_at_every_size(tmp_path: Path) -> None:
    arguments = [f"--{name}={value}" for name, value in TINY.items()]
    run = CliRunner().invoke(app, [*arguments, "--links=4", f"--output={tmp_path}"])
    assert run.exit_code == 0, run.output
    result = json.loads((tmp_path / "rerank.json").read_text())["results"]
    sizes = [(each["kind"], each["candidates"], each["history"]) for each in result["measured"]]
    assert sorted(sizes) == sorted((kind, k, t) for kind in KINDS for k in (64, 128) for t in (64, 128))
    for each in result["measured"]:
        part = each["cpu_ms"]
        assert all(part[name] > 0 for name in PARTS)
        assert part["total"] >= max(part[name] for name in PARTS)
        assert each["ms"] > 0
    assert result["ratios"] is None  # far from the sizes that it is asked for
    assert result["not_measured"] == []
    # Two bytes each: four links for two heads, and 32 numbers.
    assert result["item_bytes"] == {"lime-mha": 80, "lime-xor": 80, "target-attention": 16}
    charts = {path.name for path in tmp_path.glob("*.png")}
    assert charts == {"rerank-candidates.png", "rerank-history.png", "rerank-speedup.png"}
    assert "<svg" in (tmp_path / "rerank.html").read_text()
    assert "LIME-MHA" in (tmp_path / "rerank.html").read_text()


def test_what_would_take_too_long_is_left_out_and_said() -> None:
    """The first size of each kind is always measured: nothing is known before."""
    options = RerankBenchOptions(**TINY, limit=1e-9)
    measured, left_out, _ = measure(options)
    assert [(each.kind, each.candidates, each.history) for each in measured] == [(kind, 64, 64) for kind in KINDS]
    assert len(left_out) == 9
    assert all(each.expected_ms > 0 for each in left_out)
    assert len(tables(measured)) == 3


def test_a_size_is_expected_to_take_what_smaller_ones_did_at_most() -> None:
    contender = Contender(make_ranker(RerankConfig(), 8), torch.randn(10, 8))
    assert contender.expected_ms(64, 64) == 0
    contender.learn(64, 64, {"user": 3.0, "gather": 1.0, "score": 4.0})
    assert contender.expected_ms(128, 64) == 3 + 2 * 5
    assert contender.expected_ms(64, 128) == 4 * 3 + 2 * 5
    contender.learn(64, 128, None)
    assert contender.expected_ms(64, 256) == 16 * 3 + 4 * 5
    contender.learn(128, 64, {"user": 3.0, "gather": 1.0, "score": 1.0})
    assert contender.expected_ms(128, 128) == 4 * 3 + 2 * max(2, 2 * 5)


def cost(kind: str, candidates: int, history: int, total: float) -> Measured:
    parts = {**dict.fromkeys(PARTS, total / 3), "total": total}
    return Measured(kind=kind, candidates=candidates, history=history, cpu_ms=parts, ms=total, requests=1)


@pytest.mark.parametrize(
    ("few", "here", "full", "long", "met"),
    [
        (1.0, 3.0, 30.0, 48.0, True),
        (1.0, 3.1, 31.0, 48.0, False),
        (1.0, 3.0, 29.0, 48.0, False),
        (1.0, 3.0, 30.0, 49.0, False),
    ],
)
def test_the_target_is_growth_within_three_linear_in_history_and_ten_times_faster(
    few: float, here: float, full: float, long: float, met: bool
) -> None:
    measured = [cost("target-attention", 4096, 1024, full)]
    for kind in ("lime-mha", "lime-xor"):
        sizes = {(64, 1024): few, (4096, 1024): here, (4096, 16384): long}
        measured += [cost(kind, *size, total) for size, total in sizes.items()]
    found = ratios(measured, 16384)
    assert found is not None
    each = found["lime-xor"]
    assert (each["candidates"], each["speedup"], each["history"]) == (here / few, full / here, long / here)
    assert each["met"] is met
    assert verdict(found).startswith("target met" if met else "target missed")


def test_sizes_are_the_powers_of_two() -> None:
    assert powers(512) == [64, 128, 256, 512]
    assert powers(64) == [64]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"candidates": 100}, "--candidates=100 must be a power of two, 64 or more"),
        ({"history": 32}, "--history=32 must be a power of two, 64 or more"),
        ({"items": 100, "candidates": 128}, "--items=100 must be at least --candidates=128"),
        ({"limit": 0.0}, "--limit=0.0 must be above 0"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(changes: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        RerankBenchOptions(**changes)  # type: ignore[arg-type]
