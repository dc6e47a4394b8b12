"""A running server removes the compacted catalogs of bundles that it will not go back to."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import LogCapture

from rf_platform.settings import Settings
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_serving.catalog.compaction.cache_directory import occupy

if TYPE_CHECKING:
    from rf_platform.registry import Registry

FIRST, SECOND, THIRD = "tiny-run-1", "other-run-1", "third"


class Other:
    """Who uses a directory."""


def test_catalogs_of_bundles_that_are_served_no_more_are_removed(
    pair: Settings,
    pair_registry: "Registry",
    start_server: Callable[..., Any],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    logs: LogCapture,
) -> None:
    from rf_serving.bundle.build import build_bundle

    monkeypatch.setattr("rf_serving.deployment.deployments.GRACE_SECONDS", 0)
    monkeypatch.setattr("rf_serving.deployment.deployments.SWEEP_SECONDS", 0)
    build_bundle(pair_registry, pair.workspace.bundles, "other-run", name=THIRD)
    bundles = {path.name: sorted(path.rglob("*")) for path in pair.workspace.bundles.iterdir()}
    cache = pair.workspace.cache / "catalog"
    stale = cache / "gone-0123456789ab"
    stale.mkdir(parents=True)
    (stale / "items.arrow").write_bytes(b"x" * 12345)
    other = Other()
    occupy(cache / "elsewhere-0123456789ab", other)  # by a server of another bundle

    def cached() -> set[str]:
        return {path.name.rpartition("-")[0] for path in cache.iterdir()}

    with start_server(pair, poll_seconds=0.02) as running:
        serving = running.parts.deployments
        wait_until(lambda: not stale.exists(), 60)  # at the start
        pair_registry.traffic.split(SECOND, 10)
        pair_registry.traffic.shadow(THIRD, 1.0)
        wait_until(lambda: serving.serving.shadow is not None and serving.serving.challenger is not None, 60)
        assert cached() == {FIRST, SECOND, THIRD, "elsewhere"}

        pair_registry.traffic.shadow(None, 0)
        wait_until(lambda: cached() == {FIRST, SECOND, "elsewhere"}, 60)
        pair_registry.promote(SECOND)
        wait_until(lambda: serving.serving.active.name == SECOND, 60)
        pair_registry.promote(THIRD)  # now a rollback leads to the second
        wait_until(lambda: cached() == {SECOND, THIRD, "elsewhere"}, 60)
        pair_registry.rollback()
        wait_until(lambda: cached() == {SECOND, FIRST, "elsewhere"} or cached() == {SECOND, "elsewhere"}, 60)
        assert running.stub.Retrieve(RetrieveRequest(user_id="17", k=3)).bundle == SECOND
        del other
        wait_until(lambda: "elsewhere" not in cached(), 60)
    assert {path.name: sorted(path.rglob("*")) for path in pair.workspace.bundles.iterdir()} == bundles
    removed = {line["directory"]: line["bytes"] for line in logs.entries if line["event"] == "unused catalog removed"}
    assert removed[stale.name] == 12345
    assert {name.rpartition("-")[0] for name in removed} >= {"gone", FIRST, THIRD, "elsewhere"}


def test_a_registry_that_fails_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rf_platform.errors import UnavailableError
    from rf_platform.registry import Registry, ServingPlan, TrafficRecord
    from rf_serving.deployment.deployments import CacheSweep

    registry = Registry.open(f"sqlite:///{tmp_path / 'registry.db'}", root=tmp_path)
    plan = ServingPlan(revision=(0, 0, 0), active=None, challenger=None, shadow=None, traffic=TrafficRecord())
    old = tmp_path / "cache" / "old-0123456789ab"
    old.mkdir(parents=True)
    monkeypatch.setattr("rf_serving.deployment.deployments.GRACE_SECONDS", 0)

    def fails() -> None:
        raise UnavailableError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(registry, "rollback_target", fails)
        CacheSweep(tmp_path / "cache", registry).step(plan)
    assert old.exists()
    CacheSweep(tmp_path / "cache", registry).step(plan)
    assert not old.exists()
