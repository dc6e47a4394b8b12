"""Settings from the environment, and the workspace they name."""

import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from rf_platform.errors import ConfigError
from rf_platform.settings import Settings, get_settings, use_home


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RF_HOME", "unset below, so that it is put back afterwards")
    for name in [n for n in os.environ if n.startswith("RF_")]:
        monkeypatch.delenv(name)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def test_without_any_setting_everything_is_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = get_settings()
    assert settings.workspace.root == tmp_path / ".rf"
    assert settings.platform_registry_url == f"sqlite:///{tmp_path / '.rf' / 'registry.db'}"
    assert (settings.feature_repo, settings.feast_registry_url, settings.online_store_url) == (None, None, None)
    assert settings.feature_service == "retrieval"
    assert settings.threads is None
    assert settings.index_device == "auto"
    assert not (tmp_path / ".rf").exists()  # reading settings writes nothing


def test_an_empty_store_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As files of variables have it that list them all."""
    monkeypatch.setenv("RF_STORE_URL", "")
    assert Settings().store_url is None


def test_every_setting_has_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "RF_HOME": str(tmp_path / "home"),
        "RF_FEATURE_REPO": str(tmp_path / "repo"),
        "RF_REGISTRY_URL": "postgresql://h/registry",
        "RF_FEAST_REGISTRY_URL": "postgresql://h/feast",
        "RF_ONLINE_STORE_URL": "redis://h:1/2",
        "RF_FEATURE_SERVICE": "other",
        "RF_EVENTS_SINCE": "1999-12-31",
        "RF_EVENTS_AHEAD_SECONDS": "5",
        "RF_THREADS": "3",
        "RF_INDEX_DEVICE": "cuda:1",
        "RF_INDEX_URL": "http://h:19530",
        "RF_OTEL_ENDPOINT": "http://h:4318",
        "RF_OTEL_SAMPLE": "0.5",
        "RF_STORE_URL": "s3://shop/rf",
        "RF_STORE_CACHE_MB": "100",
        "RF_TEXT_ENCODER": "/encoders/shop",
        "RF_TEXT_CACHE_MB": "100",
        "RF_RERANK": "exact",
        "RF_RERANK_CANDIDATES": "500",
        "RF_FIRST_EVENTS": "false",
        "RF_EVENT_COUNTS": "false",
        "RF_CO_OCCURRENCE": "0.5",
        "RF_LOG_SHARE": "0.25",
        "RF_LOG_DAYS": "7",
        "RF_LOG_MB": "500",
        "RF_SKEW_GATE": "refuse",
        "RF_SKEW_ALLOW": "0.01",
        "RF_SKEW_GRACE_SECONDS": "30",
        "RF_SIGNING_KEY": str(tmp_path / "release"),
        "RF_REQUIRE_SIGNATURE": str(tmp_path / "release.pub"),
    }
    assert {f"RF_{name.upper()}" for name in Settings.model_fields} == set(given)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = get_settings()
    assert not settings.first_events
    assert not settings.event_counts
    assert settings.co_occurrence == 0.5
    assert settings.home == tmp_path / "home"
    assert settings.feature_repo == tmp_path / "repo"
    assert settings.registry_url == settings.platform_registry_url == "postgresql://h/registry"
    assert settings.feast_registry_url == "postgresql://h/feast"
    assert settings.online_store_url == "redis://h:1/2"
    assert settings.feature_service == "other"
    assert (settings.events_since, settings.events_ahead_seconds) == (date(1999, 12, 31), 5.0)
    assert settings.threads == 3
    assert (settings.index_device, settings.index_url) == ("cuda:1", "http://h:19530")
    assert (settings.rerank, settings.rerank_candidates) == ("exact", 500)
    assert (settings.signing_key, settings.require_signature) == (tmp_path / "release", tmp_path / "release.pub")


def test_a_workspace_keeps_everything_under_one_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it is named relative to a directory that is left later."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RF_HOME", "shop/../shop")
    workspace = get_settings().workspace
    monkeypatch.chdir("/")
    assert workspace.root == tmp_path / "shop"
    parts = [workspace.tables, workspace.feast, workspace.datasets, workspace.runs, workspace.bundles]
    assert [p.relative_to(tmp_path / "shop") for p in parts] == [
        Path(name) for name in ("tables", "feast", "datasets", "runs", "bundles")
    ]


def test_they_are_read_once_until_a_home_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RF_HOME", str(tmp_path / "a"))
    first = get_settings()
    monkeypatch.setenv("RF_HOME", str(tmp_path / "b"))
    assert get_settings() is first
    monkeypatch.chdir(tmp_path)
    assert use_home(Path("c")) == tmp_path / "c"
    assert get_settings().workspace.root == tmp_path / "c"
    assert os.environ["RF_HOME"] == str(tmp_path / "c")  # what processes started from here will read
    monkeypatch.chdir("/")
    assert get_settings().workspace.root == tmp_path / "c"


def test_other_variables_are_none_of_our_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RF_SOMETHING_ELSE", "x")
    monkeypatch.setenv("THREADS", "7")
    assert get_settings().threads is None


@pytest.mark.parametrize("value", ["0", "-2", "many", "1.5"])
def test_a_value_that_cannot_be_names_its_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RF_THREADS", value)
    with pytest.raises(ConfigError, match=rf"RF_THREADS.*{value}"):
        get_settings()
