"""The demo keeps to its own workspace, whatever engines the shell's variables name."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

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


def test_the_demo_stays_until_ctrl_c(home: Path, tmp_path: Path, copy_workspace: Callable[[Path, Path], Path]) -> None:
    """A demo that was made before is shown as it is, and leaves nothing running behind it."""
    copy_workspace(home, tmp_path / "demo")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RF_")}
    command = [sys.executable, "-m", "rf_platform.cli", "--home", str(tmp_path), "demo", "--keep"]
    process = subprocess.Popen(
        command, env={**environment, "COLUMNS": "200"}, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    said, url = "", ""
    try:
        for line in process.stdout:
            said += line
            if line.startswith("console at "):
                url = line.split()[-1]
                break
        assert "was made before" in said
        assert url, said
        with urlopen(f"{url}user?id=30&k=3", timeout=60) as page:
            assert page.headers["server-timing"].startswith("page;dur=")
            assert b"Movie" in page.read()
        with urlopen(url, timeout=60) as page:
            assert b">Retrieve</th>" in page.read()  # it reads the server's metrics
        found = re.search(r"HTTP/JSON at (http://\S+?)/;", said)
        assert found is not None, said
        method = f"{found[1]}/retrievalformer.v1.RetrievalService/Retrieve"
        asked = Request(method, json.dumps({"userId": "30", "k": 2}).encode(), {"content-type": "application/json"})
        with urlopen(asked, timeout=60) as answer:
            assert len(json.load(answer)["items"]) == 2
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(60) == 0
        for gone in (url, found[1]):
            with pytest.raises(URLError):
                urlopen(gone, timeout=5)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
