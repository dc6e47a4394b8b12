"""Trial of a bundle on real traffic: what each stage begins, waits for, passes and refuses."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rf_platform.bundle import manifest_sha256, publish, write_manifest
from rf_platform.effects import Evidence, Finding, Interval, SampleRatio, judge
from rf_platform.errors import UsageError
from rf_platform.registry import BundleRecord, ExperimentRecord, Registry
from rf_platform.registry import shadow as start_shadow
from rf_serving.experiments.split_status import ExperimentSettings, Status
from rf_serving.refresh import trial
from rf_serving.refresh.trial import NOTE, ShadowStage, SplitStage

MEASURED = ExperimentSettings(outcome=("purchase",), margin=0.05)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry with bundles ``old``, which is served, ``next`` and ``other``."""
    registry = Registry.open(f"sqlite:///{tmp_path}/registry.db", root=tmp_path)
    registry.record_dataset(
        name="d-v1", version=1, path=tmp_path / "d", fingerprint="f", spec_hash="s", counts={"events": 1}
    )
    registry.start_run("run", dataset="d-v1", recipe="small", config={}, path=tmp_path / "run")
    for name in ("old", "next", "other"):
        with publish(tmp_path / name) as staging:
            (staging / "vectors.npy").write_bytes(name.encode())
            write_manifest(
                staging,
                name=name,
                run="run",
                dataset_fingerprint="f",
                spec_hash="s",
                metrics={},
                index={"kind": "flat"},
            )
        digest = manifest_sha256(tmp_path / name)
        registry.record_bundle(
            name=name, run="run", path=tmp_path / name, manifest_sha256=digest, spec_hash="s", metrics={}
        )
    registry.promote("old")
    return registry


@pytest.fixture
def bundle(registry: Registry) -> BundleRecord:
    return registry.bundle("next")


def figures(**changes: Any) -> Any:
    return SimpleNamespace(
        **{"requests": 500, "failed": 0, "overlap": 0.6, "active_ms": 2.0, "shadow_ms": 2.1, **changes}
    )


def shadow_stage(found: Any, hours: float = 1e-9) -> ShadowStage:
    return ShadowStage(hours=hours, read=lambda name: found)


def test_a_shadow_is_begun_waited_for_and_judged(registry: Registry, bundle: BundleRecord) -> None:
    assert shadow_stage(None).advance(registry, bundle).state == "waiting"
    now = registry.traffic.now()
    assert (now.shadow, now.share, now.note) == ("next", 0.1, NOTE)
    waiting = shadow_stage(None, hours=5).advance(registry, bundle)
    assert (waiting.state, "5.0 h of 5 h are left" in waiting.said) == ("waiting", True)
    few = shadow_stage(figures(requests=40)).advance(registry, bundle)
    assert (few.state, "40 requests are compared, and 100 are needed" in few.said) == ("waiting", True)
    assert registry.traffic.now().shadow == "next"
    done = shadow_stage(figures()).advance(registry, bundle)
    assert (done.state, registry.traffic.now().shadow) == ("passed", None)
    assert "60% of the same items" in done.said


@pytest.mark.parametrize(
    ("found", "words"),
    [(figures(failed=50), "too many are not answered"), (figures(shadow_ms=9.0), "too slow")],
)
def test_a_shadow_that_fails_is_refused(registry: Registry, bundle: BundleRecord, found: Any, words: str) -> None:
    registry.traffic.shadow("next", 0.1, NOTE)
    done = shadow_stage(found).advance(registry, bundle)
    assert (done.state, registry.traffic.now().shadow) == ("refused", None)
    assert words in done.said
    assert not done.verdict("shadow").passed
    assert done.verdict("shadow").word == "refused"
    assert trial.Progress(state="waiting", said="").verdict("shadow").word == "waiting"
    assert trial.Progress(state="passed", said="").verdict("shadow").word == "passed"


def test_the_shadow_of_others_is_left_alone(registry: Registry, bundle: BundleRecord) -> None:
    start_shadow(registry, "other", 0.5)
    with pytest.raises(UsageError, match="'other' is the shadow"):
        shadow_stage(None).advance(registry, bundle)
    with pytest.raises(UsageError, match="--shadow-hours=0"):
        ShadowStage(hours=0, read=lambda name: None)


def status(experiment: ExperimentRecord, low: float, high: float, **changes: Any) -> Status:
    difference = Interval(value=(low + high) / 2, low=low, high=high)
    ratio = SampleRatio.of([500, 500], (0.5, 0.5))
    given: dict[str, Any] = {
        "control": experiment.control,
        "challenger": experiment.challenger,
        "metric": "purchases",
        "control_mean": 0.1,
        "difference": difference,
        "lacking": "",
        "ratio": ratio,
        "broken": (),
        "margin": 0.05,
        **changes,
    }
    return Status(
        experiment=experiment,
        metric="purchases",
        exposed=(500, 500),
        complete=(500, 500),
        switched=0,
        means=(0.1, 0.1),
        difference=given["difference"],
        explained=0.0,
        ratio=ratio,
        verdict=judge(Evidence(**given)),
    )


def split_stage(low: float, high: float, **changes: Any) -> SplitStage:
    return SplitStage(
        percent=50,
        measured=MEASURED,
        most_days=3,
        read=lambda experiment: status(experiment, low, high, **changes),
    )


def test_a_split_begins_an_experiment_and_waits(registry: Registry, bundle: BundleRecord) -> None:
    assert split_stage(0, 0).advance(registry, bundle).state == "waiting"
    running = registry.experiments.running()
    assert running is not None
    assert (running.challenger, running.percent, running.note) == ("next", 50, NOTE)
    assert ExperimentSettings.from_dict(running.settings) == MEASURED
    early = split_stage(0, 0, difference=None, lacking="few users").advance(registry, bundle)
    assert (early.state, "few users" in early.said) == ("waiting", True)
    assert split_stage(-0.05, 0.08).advance(registry, bundle).state == "waiting"
    assert registry.experiments.running() == running


@pytest.mark.parametrize(
    ("low", "high", "changes", "state", "finding"),
    [
        (0.01, 0.03, {}, "passed", "better"),
        (-0.003, 0.004, {}, "passed", "equal"),
        (-0.003, 0.05, {}, "passed", "undecided"),  # not worse by more than the margin
        (-0.05, -0.01, {}, "refused", "harm"),
        (0.01, 0.03, {"broken": ("latency broken",)}, "refused", "harm"),
    ],
)
def test_a_split_ends_with_what_it_found(
    registry: Registry,
    bundle: BundleRecord,
    low: float,
    high: float,
    changes: dict[str, Any],
    state: str,
    finding: str,
) -> None:
    split_stage(0, 0).advance(registry, bundle)
    done = split_stage(low, high, **changes).advance(registry, bundle)
    assert done.state == state
    assert registry.traffic.now().challenger is None
    assert registry.experiments.get().finding == finding
    # What has ended is not begun again.
    assert split_stage(low, high).advance(registry, bundle).state == "refused"
    assert registry.experiments.running() is None


def test_a_split_that_shows_nothing_ends(
    registry: Registry, bundle: BundleRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_stage(0, 0).advance(registry, bundle)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(UTC) + timedelta(days=4)

    monkeypatch.setattr(trial, "datetime", Later)
    done = split_stage(-0.05, 0.08).advance(registry, bundle)
    assert (done.state, "all that 3 days have shown" in done.said) == ("refused", True)
    assert registry.experiments.get().finding == Finding.UNDECIDED


def test_the_challenger_of_others_is_left_alone(registry: Registry, bundle: BundleRecord) -> None:
    registry.traffic.split("other", 10)
    with pytest.raises(UsageError, match="'other' has a part of the users"):
        split_stage(0, 0).advance(registry, bundle)
