"""The demo keeps to its own workspace, whatever engines the shell's variables name."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rf_platform.cli.app import app
from rf_platform.errors import RfError
from rf_platform.settings import Settings, get_settings

ELSEWHERE = {
    "RF_REGISTRY_URL": "postgresql://production/registry",
    "RF_ONLINE_STORE_URL": "redis://production:6379/0",
    "RF_FEAST_REGISTRY_URL": "postgresql://production/feast",
    "RF_FEATURE_REPO": "/production/features",
    "RF_FEATURE_SERVICE": "production",
}


def test_variables_that_point_elsewhere_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**ELSEWHERE, "RF_HOME": str(tmp_path), "RF_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    tables = tmp_path / "demo" / "tables"  # so that the demo ends with its first step
    tables.mkdir(parents=True)
    (tables / "import.json").write_text("{}")
    result = CliRunner().invoke(app, ["demo"])
    assert isinstance(result.exception, RfError), result.output
    assert str(tables) in str(result.exception)
    said = " ".join(result.output.split())
    for name in ELSEWHERE:
        assert name in said
        assert name not in os.environ
    plain = Settings(home=tmp_path / "demo", threads=1)
    assert get_settings() == plain
    get_settings.cache_clear()
