"""`rf doctor` as a user runs it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rf_platform.doctor.checks
from rf_platform.cli import main
from rf_platform.doctor.check import Check, Finding, Status, ok, run_checks, warn
from rf_platform.errors import UnavailableError
from rf_platform.settings import Settings, get_settings


def test_one_failure_hides_no_other(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    def explode(settings: Settings) -> Finding:
        raise ValueError("first line\nsecond line")

    def silent(settings: Settings) -> Finding:
        raise RuntimeError

    def unreachable(settings: Settings) -> Finding:
        raise UnavailableError("the store, at x; or y, is down; start it")

    def chatty(settings: Settings) -> Finding:
        print("noise")  # noqa: T201
        return ok("fine")

    results = list(run_checks([Check(f.__name__, f) for f in (explode, silent, unreachable, chatty)], settings))
    assert [(r.name, r.status, r.detail, r.remedy) for r in results] == [
        ("explode", Status.FAIL, "ValueError: first line", ""),
        ("silent", Status.FAIL, "RuntimeError: no message", ""),
        ("unreachable", Status.FAIL, "the store, at x; or y, is down", "start it"),
        ("chatty", Status.OK, "fine", ""),
    ]
    assert capsys.readouterr().out == ""


def test_every_check_of_a_real_installation(tmp_path: Path, closed_port: int) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "RF_HOME": str(tmp_path / "home"),
        "RF_ONLINE_STORE_URL": f"redis://:secret@127.0.0.1:{closed_port}/0",
    }
    done = subprocess.run(
        [sys.executable, "-c", "from rf_platform.cli import main; main()", "doctor", "--json"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    report = json.loads(done.stdout)
    status = {check["name"]: check["status"] for check in report["checks"]}
    assert done.returncode == 1
    assert report["ok"] is False
    assert list(status) == [check.name for check in rf_platform.doctor.checks.CHECKS]
    assert [name for name, value in status.items() if value == "fail"] == ["online store"]
    assert status["torch loads"] == status["faiss loads"] == "ok"
    assert report["settings"]["RF_ONLINE_STORE_URL"] == f"redis://:***@127.0.0.1:{closed_port}/0"
    assert "secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []  # nothing was created


@pytest.fixture
def fresh_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the command read its settings anew, with a workspace of its own."""
    monkeypatch.setenv("RF_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["rf", "doctor"])
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def test_warnings_are_no_failure(
    fresh_settings: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    checks = (Check("good", lambda s: ok("fine")), Check("early", lambda s: warn("[not] yet", "`rf data import`")))
    monkeypatch.setattr(rf_platform.doctor.checks, "CHECKS", checks)
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"RF_HOME={tmp_path}\n" in out
    assert "RF_FEATURE_SERVICE=retrieval\n" in out
    assert "[not] yet" in out
    assert "`rf data import`" in out


def test_a_setting_that_is_not_usable_is_named(
    fresh_settings: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RF_THREADS", "many")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "RF_THREADS='many' is not usable: " in capsys.readouterr().err
