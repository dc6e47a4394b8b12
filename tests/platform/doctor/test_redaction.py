"""Secrets of settings stand in no message, output or log line, however the URL is written."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from rf_platform.doctor.check import run_checks
from rf_platform.doctor.checks import CHECKS
from rf_platform.doctor.commands import shown_settings
from rf_platform.redaction import redactor, without_password, without_secrets
from rf_platform.settings import Settings, get_settings

PASSWORD = "correct-horse"
URLS = [name for name in Settings.model_fields if name.endswith(("_url", "_endpoint"))]
SCHEMES = {"otel_endpoint": "http", "online_store_url": "redis", "store_url": "s3"}
WAYS = {
    "plain": "{scheme}://user:{password}@127.0.0.1:{port}/0",
    "slash": "{scheme}://user:{password}/{password}@127.0.0.1:{port}/0",
    "at": "{scheme}://user:{password}@{password}@127.0.0.1:{port}/0",
    "question": "{scheme}://user:{password}?{password}@127.0.0.1:{port}/0",
    "hash": "{scheme}://user:{password}#{password}@127.0.0.1:{port}/0",
    "bracket": "{scheme}://user:[{password}@127.0.0.1:{port}/0",
    "encoded": "{scheme}://user:%63orrect-horse@127.0.0.1:{port}/0",
    "engine": "mysql://user:{password}@127.0.0.1:{port}/0",
    "no host": "{scheme}://user:{password}@/0",
    "comma": "{scheme}://user:{password},{password}@127.0.0.1:{port}/0",
}
SLOW = ("torch loads", "faiss loads", "gpu")


@pytest.fixture
def given(
    request: pytest.FixtureRequest, tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Every setting that is a URL, written in one of the ways."""
    monkeypatch.setenv("RF_HOME", str(tmp_path))
    monkeypatch.setenv("RF_TOKEN", PASSWORD[::-1])
    for name in URLS:
        url = WAYS[request.param].format(scheme=SCHEMES.get(name, "postgresql"), password=PASSWORD, port=closed_port)
        monkeypatch.setenv(f"RF_{name.upper()}", url)
    get_settings.cache_clear()
    yield request.param
    get_settings.cache_clear()


def told(text: str) -> bool:
    return PASSWORD in text or PASSWORD[::-1] in text or "%63orrect" in text


def test_all_settings_with_urls_are_meant() -> None:
    assert {"registry_url", "feast_registry_url", "online_store_url", "otel_endpoint", "store_url"} <= set(URLS)
    described = {name for name, field in Settings.model_fields.items() if "://" in (field.description or "")}
    assert described <= set(URLS)


@pytest.mark.parametrize("given", WAYS, indirect=True)
def test_nothing_of_them_is_shown(given: str, run_command: Callable[..., tuple[int, str, str]]) -> None:
    checks = [check for check in CHECKS if check.name not in SLOW]
    settings = get_settings()
    shown = json.dumps([shown_settings(settings), [str(result) for result in run_checks(checks, settings)]])
    assert "***" in shown
    for command in (["bundles"], ["features", "show"], ["runs", "list"]):
        code, out, err = run_command(*command)
        assert code in (1, 2), (command, out)
        shown += out + err
    assert not told(shown), shown


@pytest.mark.parametrize("given", ["plain", "slash"], indirect=True)
def test_log_lines_hide_what_libraries_say(
    given: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rf_serving.logs import configure_logs

    before, root = structlog.get_config(), logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers)
    monkeypatch.setattr(root, "level", root.level)
    try:
        configure_logs("info")
        log = structlog.get_logger("rf_serving")
        try:
            raise ValueError(f"no port in 'user:{PASSWORD}'")
        except ValueError:
            log.exception("failed", token=PASSWORD[::-1])
        line = json.loads(capsys.readouterr().out)
    finally:
        structlog.configure(**before)
    assert "no port in 'user:***'" in line["exception"]
    assert line["token"] == "***"


def test_what_is_no_secret_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RF_REGISTRY_URL", "postgresql://postgres:postgres@db:5432/rf")
    monkeypatch.setenv("RF_ONLINE_STORE_URL", "redis://:abc@cache:6379/0")
    text = "postgresql://postgres@db:5432/rf and abc"
    assert without_secrets(text) == text
    monkeypatch.setenv("RF_OTEL_ENDPOINT", "https://key-of-a-vendor@otel/v1?api_key=another-key")
    assert redactor()("401 for key-of-a-vendor, another-key") == "401 for ***, ***"
    assert without_password("https://u:a/b@otel/v1?api_key=x&y=1") == "https://u:***@otel/v1?api_key=***&y=1"
