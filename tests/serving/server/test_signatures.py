"""Only signed bundles are served where that is required: at the start, at a takeover, and in a batch."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rf_platform.bundle.signature import make_keys, sign
from rf_platform.errors import UntrustedError
from rf_platform.settings import Settings

if TYPE_CHECKING:
    from rf_platform.registry import Registry

FIRST, SECOND = "tiny-run-1", "other-run-1"


def test_a_server_takes_signed_bundles_only(
    pair: Settings,
    pair_registry: "Registry",
    start_server: Callable[..., Any],
    wait_until: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rf_serving.deployment.deployments._RETRY_SECONDS", 0.5)
    key = tmp_path / "release"
    strict = pair.model_copy(update={"require_signature": make_keys(key)})
    with pytest.raises(UntrustedError, match=f"'{FIRST}' is not signed"), start_server(strict):
        pass
    sign(pair.workspace.bundles / FIRST, key)
    with start_server(strict, poll_seconds=0.05) as running:
        deployments = running.parts.deployments
        pair_registry.promote(SECOND)  # by a command without the setting, or by another hand
        wait_until(lambda: f"'{SECOND}' is not signed" in deployments.serving.refused)
        assert deployments.serving.active.name == FIRST
        sign(pair.workspace.bundles / SECOND, key)
        wait_until(lambda: deployments.serving.active.name == SECOND)


def test_a_batch_takes_signed_bundles_only(
    pair: Settings, run_command: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rf_platform.settings import get_settings

    for name, value in (("HOME", pair.home), ("FEATURE_REPO", pair.feature_repo)):
        monkeypatch.setenv(f"RF_{name}", str(value))
    monkeypatch.setenv("RF_REQUIRE_SIGNATURE", str(make_keys(tmp_path / "release")))
    get_settings.cache_clear()
    code, _, err = run_command("batch", "--out", str(tmp_path / "out.parquet"))
    get_settings.cache_clear()
    assert (code, f"'{FIRST}' is not signed" in " ".join(err.split())) == (1, True)
