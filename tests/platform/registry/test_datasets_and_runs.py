from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from rf_platform.errors import NotFoundError, UsageError
from rf_platform.registry import DatasetRecord, Registry, RunStatus


def record(registry: Registry, name: str, fingerprint: str = "f1", path: Path | str = "/data/x") -> DatasetRecord:
    return registry.record_dataset(
        name=name, version=int(name[-1]), path=path, fingerprint=fingerprint, spec_hash="s", counts={"events": 3}
    )


def test_a_dataset_is_returned_as_it_was_recorded(registry: Registry, home: Path) -> None:
    before = datetime.now(UTC)
    made = record(registry, "movies-v1", path=home / "datasets" / "movies-v1")
    assert made == registry.dataset("movies-v1") == registry.dataset()
    assert (made.name, made.version, made.fingerprint, made.spec_hash) == ("movies-v1", 1, "f1", "s")
    assert made.counts == {"events": 3}
    assert made.path == home / "datasets" / "movies-v1"
    assert before <= made.created_at <= datetime.now(UTC)
    assert made.created_at.utcoffset() == timedelta(0)


def test_the_latest_dataset_is_the_one_built_last(registry: Registry) -> None:
    record(registry, "movies-v1", "f1")
    record(registry, "movies-v2", "f2")
    assert registry.dataset().name == "movies-v2"
    again = record(registry, "movies-v1", "f1")  # equal inputs: the version that is there already
    assert registry.dataset() == again
    assert [d.name for d in registry.datasets()] == ["movies-v2", "movies-v1"]


def test_a_version_is_replaced_until_something_was_trained_on_it(registry: Registry) -> None:
    record(registry, "movies-v1", "f1")
    assert record(registry, "movies-v1", "f2", "/elsewhere").fingerprint == "f2"
    assert [(d.fingerprint, d.path) for d in registry.datasets()] == [("f2", Path("/elsewhere"))]
    registry.start_run("demo", dataset="movies-v1", recipe="small", config={}, path="/runs/demo")
    with pytest.raises(UsageError, match="fingerprint f2 when run 'demo' was trained on it, and now has f3"):
        record(registry, "movies-v1", "f3")
    assert registry.dataset("movies-v1").fingerprint == "f2"


def test_paths_in_the_workspace_move_with_it(registry: Registry, registry_url: str, home: Path, tmp_path: Path) -> None:
    record(registry, "movies-v1", path=home / "datasets" / "movies-v1")
    record(registry, "movies-v2", path="/elsewhere/movies-v2")
    moved = Registry.open(registry_url, root=tmp_path / "moved")
    assert moved.dataset("movies-v1").path == tmp_path / "moved" / "datasets" / "movies-v1"
    assert moved.dataset("movies-v2").path == Path("/elsewhere/movies-v2")


def test_a_missing_dataset_is_answered_with_what_there_is(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="no dataset: the registry has none yet; run `rf dataset build`"):
        registry.dataset()
    for n in range(1, 10):
        record(registry, f"movies-v{n}")
        record(registry, f"shops-v{n}")
    with pytest.raises(NotFoundError, match="no dataset 'movie-v3': did you mean movies-v3 or"):
        registry.dataset("movie-v3")
    with pytest.raises(NotFoundError, match=r"no dataset 'x': the registry has shops-v9, movies-v9, .* and 8 more$"):
        registry.dataset("x")


@pytest.mark.parametrize("name", ["../v1", "a/v1", ""])
def test_names_that_are_no_directories_are_refused(registry: Registry, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a dataset"):
        registry.record_dataset(name=name, version=1, path="/x", fingerprint="f", spec_hash="s", counts={})
    with pytest.raises(UsageError, match="cannot be the name of a run"):
        registry.start_run(name, dataset="d", recipe="r", config={}, path="/x")


def test_a_run_goes_from_running_to_completed(with_run: Registry, home: Path) -> None:
    started = with_run.run("demo")
    assert (started.status, started.metrics, started.error, started.ended_at) == (RunStatus.RUNNING, {}, None, None)
    assert (started.dataset, started.recipe, started.config) == ("movies-v1", "small", {"seed": 1})
    assert started.path == home / "runs" / "demo"
    done = with_run.finish_run("demo", {"recall@20": 0.25, "loss": float("nan")})
    assert done == with_run.run("demo") == with_run.run()
    assert (done.status, done.metrics) == (RunStatus.COMPLETED, {"recall@20": 0.25, "loss": None})
    assert done.ended_at is not None
    assert done.started_at == started.started_at <= done.ended_at


def test_finishing_again_replaces_the_metrics_only(with_run: Registry) -> None:
    first = with_run.finish_run("demo", {"recall@20": 0.2})
    again = with_run.finish_run("demo", {"recall@20": 0.2, "test": {"mrr": 0.1}})
    assert again == replace(first, metrics={"recall@20": 0.2, "test": {"mrr": 0.1}})
    assert with_run.runs() == [again]


def test_a_failed_run_keeps_its_reason_until_it_is_resumed(with_run: Registry) -> None:
    failed = with_run.fail_run("demo", "the loss became NaN at step 7")
    assert (failed.status, failed.error) == (RunStatus.FAILED, "the loss became NaN at step 7")
    resumed = with_run.start_run(
        "demo", dataset="movies-v1", recipe="small", config={"seed": 1, "rate": 0.1}, path="/x", resume=True
    )
    assert (resumed.status, resumed.error, resumed.ended_at) == (RunStatus.RUNNING, None, None)
    assert resumed.config == {"seed": 1, "rate": 0.1}
    assert resumed.started_at == failed.started_at
    assert len(with_run.runs()) == 1


def test_a_taken_name_is_refused_unless_the_run_is_resumed(with_run: Registry) -> None:
    with pytest.raises(
        UsageError, match=r"there is a run 'demo' already \(running, started .*; resume it or choose another"
    ):
        with_run.start_run("demo", dataset="movies-v1", recipe="small", config={}, path="/x")
    with pytest.raises(UsageError, match="with recipe 'small' and cannot go on with 'movies-v1' and 'large'"):
        with_run.start_run("demo", dataset="movies-v1", recipe="large", config={}, path="/x", resume=True)
    record(with_run, "movies-v2")
    with pytest.raises(UsageError, match="on dataset 'movies-v1'"):
        with_run.start_run("demo", dataset="movies-v2", recipe="small", config={}, path="/x", resume=True)


def test_resuming_a_run_that_is_not_there_starts_it(with_run: Registry) -> None:
    made = with_run.start_run("other", dataset="movies-v1", recipe="small", config={}, path="/x", resume=True)
    assert made == with_run.run()
    assert [r.name for r in with_run.runs()] == ["demo", "other"]


def test_runs_need_a_recorded_dataset_and_a_recorded_run(with_run: Registry) -> None:
    with pytest.raises(NotFoundError, match="no dataset 'movies-v7': did you mean movies-v1"):
        with_run.start_run("other", dataset="movies-v7", recipe="small", config={}, path="/x")
    for call in (with_run.run, partial(with_run.finish_run, metrics={}), partial(with_run.fail_run, error="")):
        with pytest.raises(NotFoundError, match="no run 'demp': did you mean demo"):
            call("demp")
