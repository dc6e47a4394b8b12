"""`rf bench latency` on catalogs of a few thousand items."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rf_bench.latency import benchmark as benchmark_module
from rf_bench.latency.benchmark import benchmark
from rf_bench.latency.chart import draw
from rf_bench.latency.options import LatencyOptions, parse_sizes, size_name
from rf_bench.latency.search import recalls
from rf_bench.latency.step import Site
from rf_bench.latency.tables import result_table, verdict
from rf_bench.latency.world import CHUNK, TOPICS, World
from rf_platform.errors import RunError, UsageError

OPTIONS = LatencyOptions(
    sizes=(1500, 3000), queries=20, dim=16, rounds=2, training_steps=2, hnsw_limit=2000, recall=0.9
)


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=5)


def test_a_row_does_not_depend_on_the_size_of_the_catalog(world: World) -> None:
    whole = World(seed=5).items(0, CHUNK + 50)
    part = world.items(CHUNK - 10, CHUNK + 20)
    assert part.rows == 30
    for name, vectors in part.vectors.items():
        assert np.array_equal(vectors, whole.vectors[name][CHUNK - 10 : CHUNK + 20])
    for name, ids in part.ids.items():
        expected = whole.ids[name].take(np.arange(CHUNK - 10, CHUNK + 20))
        assert np.array_equal(ids.values, expected.values)
        assert np.array_equal(ids.lengths, expected.lengths)
    assert not np.array_equal(
        World(seed=6).items(0, 30).vectors["item__text"], world.items(0, 30).vectors["item__text"]
    )


def test_attributes_are_skewed_and_texts_differ(world: World) -> None:
    items = world.items(0, 20_000)
    counts = np.sort(np.bincount(items.ids["item__topic"].values, minlength=TOPICS))[::-1]
    assert counts[0] > 10 * counts[len(counts) // 4] > 0
    assert len(np.unique(items.vectors["item__text"], axis=0)) == 20_000


def test_histories_follow_interests_and_taste(world: World) -> None:
    catalog = world.items(0, 20_000)
    topic, text = catalog.ids["item__topic"].values, catalog.vectors["item__text"]
    users = world.histories(catalog, 200, 12, seed=1)
    assert users.rows_UT.shape == (200, 12)
    assert all(len(set(topic[rows])) <= 3 for rows in users.rows_UT)
    history = text[users.rows_UT].mean(axis=1)
    random = text[np.random.default_rng(0).permutation(20_000)[:200]]
    assert (history * text[users.next_U]).sum(1).mean() > (history * random).sum(1).mean() + 0.2
    again, others = (world.histories(catalog, 200, 12, seed=seed).rows_UT for seed in (1, 2))
    assert np.array_equal(again, users.rows_UT)
    assert not np.array_equal(others, users.rows_UT)


def test_recall_counts_the_true_best() -> None:
    truth = np.linspace(1, 0, 100, dtype=np.float32)[None]
    assert recalls(truth, truth) == {"10": 1.0, "100": 1.0}
    without_best = np.concatenate([truth[:, 1:], [[-1]]], axis=1)
    assert recalls(without_best, truth) == {"10": 0.9, "100": 0.99}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("latency")
    return root, benchmark(OPTIONS, root, keep=True)


def test_every_kind_is_measured_beside_the_scan(measured: tuple[Path, dict[str, Any]]) -> None:
    _, result = measured
    small, large = result["sizes"]
    assert list(small["kinds"]) == ["exact", "hnsw", "ivf-pq"]
    assert list(large["kinds"]) == ["exact", "ivf-pq"]
    assert (small["not_run"], large["not_run"]) == ([], ["hnsw"])
    for size in (small, large):
        scan = size["kinds"]["exact"]
        assert scan["recall"] == {"10": 1.0, "100": 1.0}
        assert scan["speedup"]["p50"] == 1.0
        assert (scan["build"]["index_bytes"], scan["build"]["vectors_bytes"]) == (0, size["items"] * 16 * 4)
        for kind in set(size["kinds"]) - {"exact"}:
            found = size["kinds"][kind]
            assert found["recall"]["100"] >= 0.85  # 20 queries
            assert 0 < found["ms"]["p50"] <= found["ms"]["p90"] <= found["ms"]["p99"]
            assert found["speedup"]["p50"] == scan["ms"]["p50"] / found["ms"]["p50"]
            assert found["build"]["index_bytes"] > size["items"] * 4
            assert found["build"]["settings"]["efforts"][0]["k"] == 100
            curve = found["curve"]
            assert any(point["tuned"] for point in curve)
            assert curve[-1]["recall"]["100"] >= curve[0]["recall"]["100"]
    assert json.loads(json.dumps(result)) == result


def test_the_recall_is_that_of_the_index_on_disk(measured: tuple[Path, dict[str, Any]]) -> None:
    root, result = measured
    site = Site(root=root, items=3000)
    timed, tuning = site.queries()
    assert len(timed) == len(tuning) == 20
    vectors = np.asarray(site.vectors())
    truth = np.argsort(-(timed @ vectors.T), axis=1)
    found = site.open("ivf-pq").search(timed, 100).rows
    for k in (10, 100):
        expected = np.mean([len({*t[:k]} & {*f[:k]}) / k for t, f in zip(truth.tolist(), found.tolist(), strict=True)])
        assert result["sizes"][1]["kinds"]["ivf-pq"]["recall"][str(k)] == pytest.approx(expected, abs=0.006)


def test_what_is_finished_is_not_measured_again(
    measured: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, result = measured
    (root / "3000" / "search.json").unlink()
    ran: list[tuple[str, int]] = []

    def watched(name: str, site: Site, threads: int) -> None:
        ran.append((name, site.items))
        run(name, site, threads)

    run = benchmark_module._run
    monkeypatch.setattr(benchmark_module, "_run", watched)
    again = benchmark(OPTIONS, root, keep=True)
    assert ran == [("search", 3000)]
    assert again["sizes"][0] == result["sizes"][0]
    with pytest.raises(UsageError, match=r"has results of .*recall=0\.9.*--fresh"):
        benchmark(replace(OPTIONS, recall=0.99), root)


def test_a_step_that_fails_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "1500").mkdir()
    (tmp_path / "1500" / "vectors.json").write_text("{}")  # finished, it says, but the vectors are gone
    with pytest.raises(RunError, match="step build-exact of 1,500 items ended with exit code 1"):
        benchmark(replace(OPTIONS, sizes=(1500,)), tmp_path)
    assert "vectors.npy" in capfd.readouterr().err


def test_charts_and_table(measured: tuple[Path, dict[str, Any]]) -> None:
    result = measured[1]
    charts = draw(result)
    assert [chart.name for chart in charts] == ["curve", "latency", "speedup", "memory", "build"]
    assert all(chart.svg.startswith("<svg") and chart.png.startswith(b"\x89PNG") for chart in charts)
    table = result_table(result)
    assert [row[:2] for row in table.rows] == [
        ("1.5k", "exact"),
        ("1.5k", "hnsw"),
        ("1.5k", "ivf-pq"),
        ("3k", "exact"),
        ("3k", "ivf-pq"),
    ]
    assert {len(row) for row in table.rows} == {len(table.heads)}


def test_the_verdict_is_about_ten_million(measured: tuple[Path, dict[str, Any]]) -> None:
    result = measured[1]
    assert verdict(result) is None
    size = {**result["sizes"][1], "items": 10_000_000}
    for speedup, met in ((300.0, True), (200.0, False)):
        size["kinds"]["ivf-pq"]["speedup"]["p50"] = speedup
        size["kinds"]["ivf-pq"]["recall"]["100"] = 0.96
        sentence = verdict({**result, "target": benchmark_module._target([size])})
        assert sentence is not None
        assert sentence.startswith("target met" if met else "target missed")
        assert f"{speedup:.0f} times" in sentence


def test_sizes_are_read_as_people_write_them() -> None:
    assert parse_sizes("1m, 10K,500,1.5m") == (500, 10_000, 1_000_000, 1_500_000)
    assert [size_name(n) for n in (500, 10_000, 1_500_000, 12_345)] == ["500", "10k", "1.5m", "12345"]
    for wrong in ("ten", "10g", "-5"):
        with pytest.raises(UsageError, match="is no number of items"):
            parse_sizes(wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": ("flat",)}, "flat"),
        ({"sizes": ()}, "--sizes"),
        ({"sizes": (50,)}, "50 items is too small"),
        ({"recall": 1.5}, r"--recall=1\.5"),
    ],
)
def test_wrong_options_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(OPTIONS, **changes)
