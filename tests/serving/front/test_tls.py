"""TLS below the front: connections that never finish their handshake, or speak something else above it."""

import shutil
import socket
import ssl
import subprocess
import time
from contextlib import suppress
from typing import Any

import pytest

from rf_serving.front import frames
from rf_serving.server.tls import ServerCertificates, TlsFiles

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    made = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(made / "key"), "-out", str(made / "cert"), "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    return TlsFiles(certificate=made / "cert", key=made / "key")


def connect(port: int, files: TlsFiles, protocols: list[str]) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(files.certificate))
    if protocols:
        context.set_alpn_protocols(protocols)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20), server_hostname="localhost")


def test_half_a_handshake_is_closed_and_holds_nobody_up(start_front: Any, files: TlsFiles) -> None:
    with start_front(context=ServerCertificates(files).context("h2"), message_seconds=0.5) as running:
        begin = time.monotonic()
        silent = [socket.create_connection(("127.0.0.1", running.port), timeout=20) for _ in range(50)]
        silent[0].sendall(b"\x16\x03\x01\x02\x00")  # the beginning of a ClientHello
        with connect(running.port, files, ["h2"]) as good:
            good.sendall(frames.PREFACE + frames.settings([]))
            assert good.recv(9)[3] == frames.SETTINGS
            assert (good.version(), good.selected_alpn_protocol()) == ("TLSv1.3", "h2")
        for each in silent:
            with each:
                while each.recv(1000):
                    pass
        assert time.monotonic() - begin < 15
        assert not running.do(lambda: [each for each in running.front.connections if each.closing_since is None])


def test_a_handshake_in_drops_is_closed(start_front: Any, files: TlsFiles) -> None:
    """Its time is that of the whole handshake, not of the silence between bytes."""
    with start_front(context=ServerCertificates(files).context("h2"), message_seconds=0.5) as running:
        begin = time.monotonic()
        with socket.create_connection(("127.0.0.1", running.port), timeout=20) as slow, suppress(OSError):
            slow.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            while time.monotonic() < begin + 15:
                slow.sendall(b"\0")
                time.sleep(0.05)
        assert time.monotonic() < begin + 10
        assert not running.do(lambda: running.front.callers.connections)


@pytest.mark.parametrize("protocols", [[], ["http/1.1"]])
def test_without_h2_there_is_no_connection(start_front: Any, files: TlsFiles, protocols: list[str]) -> None:
    with start_front(context=ServerCertificates(files).context("h2")) as running:
        try:
            with connect(running.port, files, protocols) as other:
                other.sendall(frames.PREFACE + frames.settings([]))
                got = other.recv(1000)
        except OSError:
            got = b""
        assert not got


def test_a_connection_whose_handshake_ends_after_a_drain_began_is_told_to_leave(
    start_front: Any, files: TlsFiles
) -> None:
    with start_front(context=ServerCertificates(files).context("h2")) as running:
        begun = socket.create_connection(("127.0.0.1", running.port), timeout=20)
        with connect(running.port, files, ["h2"]):  # the one before it is accepted, too
            pass
        running.do(running.front.retire)
        context = ssl.create_default_context(cafile=str(files.certificate))
        context.set_alpn_protocols(["h2"])
        with context.wrap_socket(begun, server_hostname="localhost") as late:
            late.sendall(frames.PREFACE + frames.settings([]))
            waiting = running.run(running.front.wait_until_answered(lambda call: True))
            got = b""
            while more := late.recv(1000):
                got += more
            assert b"server is draining" in got
            waiting.result(20)
