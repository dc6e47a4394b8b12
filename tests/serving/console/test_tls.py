"""The console over TLS, as the command starts it, beside a server that has TLS, too."""

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rf_platform.settings import Settings
from rf_serving.server.tls import TlsFiles

from ..conftest import REPOSITORY, running_server
from ..server.test_protection import certificate
from .conftest import Browser

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
COMMAND = "from rf_platform.cli import main; main()"


@contextmanager
def command(home: Path, *arguments: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``rf console``; gives its URL."""
    words = [sys.executable, "-c", COMMAND, "--home", str(home), "console", "--port", "0", *arguments]
    given = {**os.environ, "RF_FEATURE_REPO": str(REPOSITORY), **environment}
    with subprocess.Popen(words, env=given, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1], process
        finally:
            process.kill()


def test_the_command_serves_over_tls(
    settings: Settings,
    home: Path,
    tmp_path: Path,
    secrets: dict[str, str],
    run_command: Callable[..., tuple[int, str, str]],
) -> None:
    cert, key = certificate(tmp_path, "first")
    tokens = Path(secrets["file"])
    files = ["--tls-cert", str(cert), "--tls-key", str(key), "--tokens", str(tokens)]
    with (
        running_server(settings, tls=TlsFiles(certificate=cert, key=key), tokens=tokens) as running,
        command(home, *files, "--address", running.server.address, RF_TLS_CA=str(cert)) as (url, process),
    ):
        found = re.fullmatch(r"https://127\.0\.0\.1:(\d+)/", url)
        assert found is not None
        browser = Browser(int(found[1]), cert)
        login = browser.get("/")
        assert login.status == 401
        cookie = login.headers["set-cookie"]
        assert cookie.startswith("__Host-rf-console=")
        assert "; Secure" in cookie
        assert "max-age=" in login.headers["strict-transport-security"]
        browser.log_in(secrets["admin"])
        overview = browser.get("/")
        assert "a-admin · admin" in overview.words
        assert "serving" in overview.words  # asked over TLS, with the token of the person
        assert "60" in browser.get("/user?id=30&k=3&why=yes").words
        with pytest.raises((ConnectionError, OSError)):
            Browser(browser.port).get("/")  # plain text

        second, second_key = certificate(tmp_path / "second", "second")
        shutil.copy(second_key, key)
        shutil.copy(second, cert)
        renewed = Browser(browser.port, second)  # taken without a restart, and people stay logged in
        renewed.cookies = browser.cookies
        assert "a-admin" in renewed.get("/").words
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0

    code, _, said = run_command("console", "--tls-cert", str(cert))
    assert (code, "belong together" in said) == (2, True)
    other = certificate(tmp_path / "third", "third")[1]
    code, _, said = run_command(
        "--home", str(home), "console", "--port", "0", "--tls-cert", str(cert), "--tls-key", str(other)
    )
    assert code == 2
    assert "the key has to belong to the certificate" in " ".join(said.split())


def test_a_browser_that_does_not_trust_it_gets_nothing(home: Path, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "first")
    stranger, _ = certificate(tmp_path / "other", "other")
    with command(home, "--tls-cert", str(cert), "--tls-key", str(key), "--address", "127.0.0.1:1") as (url, _):
        port = int(url.rstrip("/").rpartition(":")[2])
        with pytest.raises(ssl.SSLCertVerificationError):
            Browser(port, stranger).get("/")
        assert Browser(port, cert).get("/").status == 200
