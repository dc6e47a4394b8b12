"""What `rf gc` keeps and removes, `rf runs`, `rf dataset list`, and what is taken where nothing is named."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from rf_platform.errors import NotFoundError, UnavailableError, UsageError
from rf_platform.locks import Lease, claimed, if_unlocked
from rf_platform.registry import Registry
from rf_platform.registry.retention import Removal, Retention, plan_removal, remove
from rf_platform.settings import Settings, get_settings

LATER = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def registry(settings: Settings) -> Registry:
    settings.workspace.root.mkdir()
    return Registry.of(settings)


@pytest.fixture
def night(registry: Registry, settings: Settings) -> Callable[[int], None]:
    """A dataset, a run and a bundle, as a night leaves them."""

    def made(number: int) -> None:
        places = [settings.workspace.root / kind / f"{kind[0]}{number}" for kind in ("datasets", "runs", "bundles")]
        for place in places:
            place.mkdir(parents=True)
            (place / "file").write_bytes(b"x" * 100)
        data, run, bundle = places
        registry.record_dataset(
            name=data.name, version=number, path=data, fingerprint=str(number), spec_hash="s", counts={}
        )
        registry.start_run(run.name, dataset=data.name, recipe="r", config={"train": {"epochs": number}}, path=run)
        registry.finish_run(run.name, {"test": {"ndcg@20": number / 10, "curve": [1]}})
        registry.record_bundle(
            name=bundle.name, run=run.name, path=bundle, manifest_sha256=str(number), spec_hash="s", metrics={}
        )

    return made


def names(removal: Removal) -> list[list[str]]:
    return [[each.name for each in kind] for kind in (removal.bundles, removal.runs, removal.datasets)]


def test_what_is_in_use_or_recent_stays(registry: Registry, settings: Settings, night: Callable[[int], None]) -> None:
    for number in range(1, 8):
        night(number)
    for name in ("b1", "b2", "b3"):
        registry.promote(name)
    registry.traffic.shadow("b4", 0.5, "")
    retention = Retention(keep=1)
    assert names(plan_removal(registry, settings, retention)) == [[], [], []]  # all is of today
    old = plan_removal(registry, settings, retention, LATER)
    # Served 3, a step back to 2, shadow 4, newest 7.
    assert names(old) == [["b1", "b5", "b6"], ["r1", "r5", "r6"], ["d1", "d5", "d6"]]
    remove(registry, old)
    assert not (settings.workspace.runs / "r1").exists()
    assert (settings.workspace.runs / "r2" / "file").exists()
    assert registry.bundle("b1").removed_at is not None
    assert registry.run("r5").metrics["test"]["ndcg@20"] == 0.5  # what it was stays known
    assert [d.bundle for d in registry.deployments()] == ["b1", "b2", "b3"]
    assert names(plan_removal(registry, settings, retention, LATER)) == [[], [], []]
    # An interrupted removal is completed.
    (settings.workspace.runs / "r6").mkdir()
    assert names(plan_removal(registry, settings, retention)) == [[], ["r6"], []]


def test_a_bundle_that_a_process_has_open_stays(
    registry: Registry, settings: Settings, night: Callable[[int], None]
) -> None:
    for number in (1, 2, 3):
        night(number)
    before = plan_removal(registry, settings, Retention(keep=1), LATER)
    program = "import sys, rf_platform.locks as l, pathlib; x = l.Lease(pathlib.Path(sys.argv[1])); print(flush=True); input()"
    path = str(settings.workspace.bundles / "b1")
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=PIPE, stdin=PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        plan = plan_removal(registry, settings, Retention(keep=1), LATER)
        assert names(plan) == [["b2"], ["r2"], ["d2"]]
        assert [each.name for each in plan.open] == ["b1"]
        with pytest.raises(UnavailableError, match="bundle 'b1' is open in another process"):
            remove(registry, before)
        assert registry.bundle("b2").removed_at is None  # all or nothing
        other.kill()
    assert names(plan_removal(registry, settings, Retention(keep=1), LATER)) == names(before)


def test_a_lease_ends_with_its_object(tmp_path: Path) -> None:
    first, second = Lease(tmp_path), Lease(tmp_path)
    assert not if_unlocked(tmp_path, print)
    del first
    assert not if_unlocked(tmp_path, print)
    del second

    def refused(path: Path) -> None:
        with pytest.raises(UnavailableError, match="is being removed"):
            Lease(path)

    assert if_unlocked(tmp_path, refused)


def test_what_is_removed_is_never_the_newest(registry: Registry, night: Callable[[int], None]) -> None:
    night(1)
    night(2)
    registry.note_removed(runs=["r2"], datasets=["d2"], bundles=["b2"])
    assert (registry.run().name, registry.dataset().name) == ("r1", "d1")
    registry.note_removed(runs=["r1"])
    with pytest.raises(NotFoundError, match="rf train"):
        registry.run()


def test_trials_are_never_the_newest_and_go_only_if_asked(
    registry: Registry, settings: Settings, night: Callable[[int], None]
) -> None:
    night(1)
    for name in ("trial-1", "trial-2"):
        path = settings.workspace.runs / name
        path.mkdir()
        registry.start_run(name, dataset="d1", recipe="r", config={}, path=path, trial=True)
        registry.finish_run(name, {})
    assert registry.run().name == "r1"
    assert registry.run("trial-2").trial
    assert names(plan_removal(registry, settings, Retention(keep=1), LATER)) == [[], [], []]
    with claimed(settings.workspace.runs / ".locks" / "trial-1") as mine:
        assert mine
        asked = plan_removal(registry, settings, Retention(keep=1, trials=True), LATER)
    assert names(asked) == [[], ["trial-2"], []]  # one is at work


def test_a_run_that_began_again_is_not_removed(
    registry: Registry, settings: Settings, night: Callable[[int], None]
) -> None:
    night(1)
    plan = Removal(bundles=(), runs=(registry.run("r1"),), datasets=())
    with claimed(settings.workspace.runs / ".locks" / "r1"), pytest.raises(UsageError, match="'r1' is being trained"):
        remove(registry, plan)
    assert (settings.workspace.runs / "r1" / "file").exists()


@pytest.fixture
def rf(settings: Settings, monkeypatch: pytest.MonkeyPatch, run_command: Any) -> Any:
    monkeypatch.setenv("RF_HOME", str(settings.home))
    monkeypatch.setenv("COLUMNS", "200")
    get_settings.cache_clear()

    yield run_command
    get_settings.cache_clear()


def test_commands(rf: Any, settings: Settings, registry: Registry, night: Callable[[int], None]) -> None:
    where = str(settings.home)
    for command in (["runs", "list"], ["dataset", "list"]):
        code, out, _ = rf(*command)
        assert (code, where in out.replace("\n", ""), "yet" in out) == (0, True, True)
    for number in (1, 2, 3):
        night(number)
    assert [run["name"] for run in json.loads(rf("runs", "list", "--json")[1])] == ["r3", "r2", "r1"]
    assert "r2" in rf("runs", "list")[1]
    shown = json.loads(rf("runs", "show", "r2", "--json")[1])
    assert (shown["dataset"], shown["bundles"]) == ("d2", ["b2"])
    assert "test.ndcg@20" in rf("runs", "show")[1]
    assert json.loads(rf("runs", "diff", "r1", "r3", "--json")[1]) == {
        "first": "r1",
        "second": "r3",
        "settings": {"dataset": ["d1", "d3"], "train.epochs": [1, 3]},
        "metrics": {"test.ndcg@20": [0.1, 0.3]},
    }
    assert "+0.2" in rf("runs", "diff", "r1", "r3")[1]
    assert rf("runs", "rm", "r1")[1].startswith("removed run r1, ")
    assert rf("runs", "rm", "r1")[0] == 2
    assert not (settings.workspace.runs / "r1").exists()
    assert [run["name"] for run in json.loads(rf("runs", "list", "--json", "--removed")[1])] == ["r3", "r2", "r1"]
    found = json.loads(rf("dataset", "list", "--json")[1])
    assert [(each["name"], each["runs"], each["bytes"]) for each in found] == [
        ("d3", ["r3"], 100), ("d2", ["r2"], 100), ("d1", [], 100),
    ]  # fmt: skip
    code, out, _ = rf("gc", "--days", "0", "--keep", "1", "--dry-run")
    assert (code, "would remove bundle b1" in out, "3 bundles" in out) == (0, True, False)
    assert (settings.workspace.bundles / "b1").exists()
    told = json.loads(rf("gc", "--days", "0", "--keep", "1", "--json")[1])
    assert [each["name"] for each in told["bundles"]] == ["b1", "b2"]
    assert not (settings.workspace.bundles / "b1").exists()
    assert "nothing to remove" in rf("gc", "--days", "0", "--keep", "1")[1]
    assert rf("gc", "--keep", "0")[0] == 2


def test_the_version(rf: Any) -> None:
    from importlib.metadata import version

    assert rf("--version") == (0, f"rf {version('retrievalformer')}\n", "")
