"""Features, lineage, runs and quality in the console: what is there, what is not, and what texts of others do."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rf_console.feature_statistics import FeatureStatisticsReader
from rf_console.run_curves import validation_chart
from rf_platform.dataset import Dataset
from rf_platform.registry import Registry
from rf_platform.settings import Settings
from rf_training.notes import Board, add_note

from ..conftest import ITEMS, REPOSITORY
from .conftest import Browser, running_console

MARKUP = "<script>alert(1)</script>"
EMPTY = {
    "/features": "rf dataset build",
    "/lineage": "rf data import",
    "/lineage/compare?kind=run": "There is no run",
    "/runs": "rf train",
    "/compare": "rf train",
    "/ablations": "rf ablate",
    "/deployments": "rf index build",
    "/quality": "rf index build",
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A console on a workspace without anything."""
    settings = Settings(home=tmp_path_factory.mktemp("empty"), feature_repo=REPOSITORY)
    with running_console(settings, address="127.0.0.1:1", feast_ui="http://127.0.0.1:8888") as port:
        yield Browser(port)


@pytest.mark.parametrize("path", EMPTY)
def test_empty_pages_say_what_to_do(empty: Browser, path: str) -> None:
    shown = empty.get(path)
    assert shown.status == 200
    assert EMPTY[path] in shown.words


def test_link_to_feast(empty: Browser, browser: Browser) -> None:
    assert '<a href="http://127.0.0.1:8888"' in empty.get("/features").text
    assert "--feast-ui" in browser.get("/features").words


def test_features_as_the_model_sees_them(browser: Browser, dataset: Dataset) -> None:
    one = browser.get("/feature?name=item_attributes__genres")
    assert f"{ITEMS} items" in one.words
    assert "learned" in one.words
    for genre in ("Comedy", "Drama", "War"):
        assert genre in one.words
    listed = browser.get("/features?side=user")
    assert "zip_area" in listed.words
    assert "release_year" not in listed.words
    assert "users.parquet" in listed.words
    assert "3.3%" in listed.words  # one of 30 users has no area
    assert "No feature is found" in browser.get("/features?q=nothing").words
    assert browser.get("/feature?name=nothing").status == 404
    assert browser.get("/features?dataset=nothing").status == 404


def test_statistics_of_features(dataset: Dataset) -> None:
    found, complete = FeatureStatisticsReader().of(dataset, wait=60)
    assert complete
    items, log = dataset.items.to_pylist(), dataset.sequences
    genres = [genre for row in items if row["current"] for genre in row["item_attributes__genres"]]
    statistics = found["item_attributes__genres"]
    assert dict(statistics.bars) == {genre: genres.count(genre) for genre in set(genres)}
    assert statistics.unknown == 0
    held_out = int(((log.split == 1) | (log.split == 2)).sum())
    times = found["interaction_context__timestamps"]
    assert sum(count for _, count in times.bars) == times.values == times.rows == held_out


def test_values_that_the_vocabulary_lacks_are_counted(dataset: Dataset) -> None:
    users = dataset.users.to_pylist()
    known = set(dataset.encoder.vocabularies["user_profile__zip_area"].values.to_pylist())
    areas = [row["user_profile__zip_area"] for row in users if row["current"] and row["user_profile__zip_area"]]
    found, _ = FeatureStatisticsReader().of(dataset, wait=60)
    expected = sum(area not in known for area in areas) / len(areas)
    assert found["user_profile__zip_area"].unknown == pytest.approx(expected)


def test_lineage_from_tables_to_deployment(browser: Browser, registry: Registry) -> None:
    shown = browser.get("/lineage")
    for fingerprint in (registry.dataset().fingerprint, registry.bundle("tiny-run-1").manifest_sha256):
        assert fingerprint[:12] in shown.words
    assert "made from a dataset with" not in shown.words
    assert "served now" in shown.words
    assert "Choose a run" in browser.get("/lineage?dataset=tiny-v1").words
    assert browser.get("/lineage?bundle=nothing").status == 404
    assert browser.get("/lineage/compare?kind=users").status == 400


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A console on a workspace with two runs that were trained, and texts with markup."""
    root = tmp_path_factory.mktemp("runs")
    settings = Settings(home=root, feature_repo=REPOSITORY)
    registry = Registry.of(settings)
    registry.record_dataset(
        name="d-v1", version=1, path=root / "datasets" / "d-v1", fingerprint="f" * 64, spec_hash="s" * 64, counts={}
    )
    for number, name in enumerate(("one", "two")):
        path = settings.workspace.runs / name
        path.mkdir(parents=True)
        (path / "run.json").write_text(json.dumps({"dataset_fingerprint": ("f" if number else "e") * 64}))
        with Board.open(path / "tensorboard", 0) as board:
            for step in range(1, 4):
                board.add("train", {"loss": 3.5 - number - step / 8}, step)
        for epoch in range(1, 3 + number):
            add_note(path / "history.jsonl", {"epoch": epoch, "steps": epoch, "ndcg@20": epoch / 8 + number / 64})
        config = {"train": {"epochs": 2 + number, "note": MARKUP}, "model": {"dim": 16}}
        registry.start_run(name, dataset="d-v1", recipe="default", config=config, path=path)
        registry.finish_run(name, {"best_epoch": 2, "validation": {"ndcg@20": 0.25}})
    registry.start_run("three", dataset="d-v1", recipe="other", config={}, path=settings.workspace.runs / "three")
    registry.fail_run("three", MARKUP)
    (settings.workspace.runs / "one" / "report.html").write_text("<title>the report</title><script>1</script>")
    with running_console(settings, address="127.0.0.1:1") as port:
        yield Browser(port)


def test_runs_are_listed_and_filtered(trained: Browser) -> None:
    assert [name in trained.get("/runs?status=failed").text for name in ("/runs/one", "/runs/three")] == [False, True]
    assert [name in trained.get("/runs?q=DEFAULT").text for name in ("/runs/one", "/runs/three")] == [True, False]
    assert "No run is found; 3 are there" in trained.get("/runs?dataset=none").words
    assert trained.get("/runs?page=x").status == 400


def test_curves_and_settings_of_a_run(trained: Browser) -> None:
    shown = trained.get("/runs/two")
    assert "&#34;values&#34;: [0.140625, 0.265625, 0.390625]" in shown.text
    assert "&#34;values&#34;: [2.375, 2.25, 2.125]" in shown.text
    assert "train.epochs" in shown.words
    assert "rf report two" in shown.words
    assert trained.get("/runs/two?metric=nothing").status == 400
    assert trained.get("/runs/nothing").status == 404
    assert trained.get("/runs/three").status == 200


def test_runs_side_by_side(trained: Browser) -> None:
    shown = trained.get("/compare?run=one&run=two&run=one")
    assert "&#34;x&#34;: [1, 2, 3]" in shown.text
    assert "[0.125, 0.25, null]" in shown.text
    assert "train.epochs" in shown.words
    assert "model.dim" not in shown.words
    assert trained.get("/compare?" + "&".join(f"run={n}" for n in range(9))).status == 400
    difference = trained.get("/lineage/compare?kind=run&one=one&other=two").words
    assert "config.train.epochs 2 3" in difference
    assert "config.model.dim" not in difference


def test_a_run_of_other_data_than_its_dataset_is_named(trained: Browser) -> None:
    assert "made from a dataset with fingerprint eeeeeeee" in trained.get("/lineage?run=one").words
    assert "made from a dataset with" not in trained.get("/lineage?run=two").words


def test_reports_can_do_nothing_here(trained: Browser) -> None:
    report = trained.get("/runs/one/report")
    assert "the report" in report.text
    policy = report.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "script" not in policy
    assert trained.get("/runs/two/report").status == 404
    assert trained.get("/ablations/..%2f..%2fx/plot.png").status in (400, 404)


@pytest.mark.parametrize(
    "path", ["/runs/one?settings=all", "/runs/three", "/runs", "/compare?run=one&run=three", "/lineage?run=three"]
)
def test_markup_is_shown_as_text(trained: Browser, path: str) -> None:
    assert MARKUP not in trained.get(path).text
    assert MARKUP not in trained.get(path.partition("?")[0] + "?q=" + MARKUP).text


def test_gaps_of_curves() -> None:
    notes = {"a": [{"epoch": 1, "m": 0.5}], "b": [{"epoch": 2, "m": float("nan")}]}
    assert [each["values"] for each in validation_chart(notes, "m")["series"]] == [[0.5, None], [None, None]]


def test_quality_has_experiments(trained: Browser, browser: Browser) -> None:
    assert "There was no experiment yet" in trained.get("/quality").words
    assert "1: the search is exact" in browser.get("/quality").words
    assert trained.get("/quality?experiment=x").status == 404


def test_quality_has_the_results_that_commands_keep(trained: Browser, tmp_path: Path) -> None:
    from rf_platform.skew.difference import Difference, Status
    from rf_platform.skew.monitors import Gauge, MonitorReport
    from rf_platform.skew.report import Example, FieldReport, ReplayReport
    from rf_platform.skew.results import SkewResults

    assert "No replay is kept" in trained.get("/quality").words
    assert "No monitoring is kept" in trained.get("/quality").words
    settings = Settings(home=tmp_path, feature_repo=REPOSITORY)
    Registry.of(settings)
    results = SkewResults(settings.workspace.skew)
    never, example = Difference(status=Status.NEVER), {"request_id": "r", "time": "", "served": "x", "truth": "y"}
    for differences in ([Difference(status=Status.EQUAL)] * 4, [never, *[Difference(status=Status.EQUAL)] * 3]):
        field = FieldReport.of(
            "profile__job",
            differences,
            history=False,
            grace_seconds=60,
            allowed=0.1,
            examples=[Example(user_id="a private person", status="never true", seconds=0, **example)],
        )
        results.keep(
            "replay",
            ReplayReport(
                requests=4, sessions=0, unread=0, since="", until="", bundles=["b"], fields=[field], notes=[MARKUP]
            ).to_dict(),
        )
    gauges = [
        Gauge(name="psi", labels={"field": "profile__job", "of": "served"}, value=0.5, limit=0.25),
        Gauge(name="item_coverage", labels={}, value=0.75, least=0.5),
    ]
    results.keep("monitor", MonitorReport(dataset="d-v1", answers=1234, gauges=gauges).to_dict())
    with running_console(settings, address="127.0.0.1:1") as port:
        shown = Browser(port).get("/quality")
    assert "4 requests held against what training sees" in shown.words
    assert "overwritten in the store, or wrong join or code" in shown.words
    assert "25.0%" in shown.words
    assert "all fields equal" in shown.words  # the replay before
    assert "1,234 answers beside d-v1 , 1 of 2 figures beyond their limits" in shown.words
    assert "at least 0.5" in shown.words
    assert MARKUP not in shown.text
    assert not any("a private person" in path.read_text() for path in settings.workspace.skew.iterdir())


def test_only_the_newest_results_are_kept(tmp_path: Path) -> None:
    from rf_platform.skew.results import SkewResults

    results = SkewResults(tmp_path / "skew")
    assert results.newest("monitor") == []
    for number in range(63):
        results.keep("monitor", {"number": number})
    results.keep("replay", {"number": -1})
    assert [each.report["number"] for each in results.newest("monitor", 100)] == list(range(62, 2, -1))
    assert results.newest("replay", 5)[0].report == {"number": -1}
