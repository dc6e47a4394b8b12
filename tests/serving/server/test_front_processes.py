"""Workers behind our own HTTP/2 front, with mTLS, in the event loop that they run in: what changes while clients go on."""

import asyncio
import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import grpc
import grpc.aio
import pytest

from rf_platform.settings import Settings
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceStub
from rf_serving.background_server import BackgroundServer
from rf_serving.server.shared_port import joined

from .conftest import CLIENTS, REPOSITORY, SECOND
from .test_protection import certificate

if TYPE_CHECKING:
    from rf_platform.registry import Registry

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
RETRIEVE = "/retrievalformer.v1.RetrievalService/Retrieve"
REQUEST = RetrieveRequest(user_id="17", k=3)
PAUSE_SECONDS = 0.02
"""Of each client: a worker that starts needs the processor, too."""
OWN = [("grpc.use_local_subchannel_pool", 1)]


class Pki:
    """Files of certificates: the server's, one to come, and the clients'."""

    def __init__(self, directory: Path) -> None:
        self.cert, self.key = certificate(directory, "server")
        self.later, self.later_key = certificate(directory / "later", "later")
        self.ca, _ = certificate(directory, "ca")
        self.own, self.own_key = certificate(directory, "known", issuer="ca")
        self.roots = directory / "roots.pem"
        self.roots.write_bytes(self.cert.read_bytes() + self.later.read_bytes())

    def credentials(self, *, with_own: bool = True) -> grpc.ChannelCredentials:
        own = (self.own_key.read_bytes(), self.own.read_bytes()) if with_own else (None, None)
        return grpc.ssl_channel_credentials(self.roots.read_bytes(), *own)

    def rotate(self) -> None:
        """Replace the server's files, one after the other."""
        for new, old in ((self.later, self.cert), (self.later_key, self.key)):
            old.write_bytes(new.read_bytes())
            time.sleep(0.3)  # half of a pair meanwhile

    def shown(self, port: int) -> bytes:
        """Return the certificate that a new connection is shown."""
        context = ssl.create_default_context(cafile=str(self.roots))
        context.load_cert_chain(self.own, self.own_key)
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as connection,
        ):
            assert connection.selected_alpn_protocol() == "h2"
            return connection.getpeercert(binary_form=True) or b""


class Caller:
    """A client that asks again and again, until it is stopped or a call fails."""

    def __init__(self, name: str) -> None:
        self.name, self.answered, self.failure = name, 0, ""


class Callers:
    """Clients of all kinds at once."""

    def __init__(self, address: str, pki: Pki) -> None:
        self.address, self._pki = address, pki
        self.all: list[Caller] = []
        self.bundles: set[str] = set()
        self._stop = Event()
        self._threads: list[Thread] = []
        self._processes: list[tuple[Caller, subprocess.Popen[str]]] = []
        self._aio: Any = None

    def start(self, go_client: Path | None, node_modules: str | None) -> None:
        from ..conftest import server_loop

        for n in range(4):
            self._thread(f"blocking {n}", self._ask)
        self._thread("a connection for each call", self._ask_anew)
        self.all.append(Caller("aio"))
        self._aio = asyncio.run_coroutine_threadsafe(self._ask_aio(self.all[-1]), server_loop())
        request, pki = base64.b64encode(REQUEST.SerializeToString()).decode(), self._pki
        if go_client is not None:
            process = self._process("Go", [str(go_client)])
            asked = {"Address": self.address, "Authority": str(pki.roots), "Path": RETRIEVE, "Request": request}
            assert process.stdin is not None
            process.stdin.write(json.dumps(asked | {"Certificate": str(pki.own), "Key": str(pki.own_key)}))
            process.stdin.flush()
        if node_modules is not None:
            files = [str(path) for path in (pki.roots, pki.own, pki.own_key)]
            command = ["node", str(CLIENTS / "client_loop.js"), self.address, *files, RETRIEVE, request]
            self._process("Node", command, {"NODE_PATH": node_modules})

    def stop(self) -> None:
        """End them, and collect what they met."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        self._aio.result(60)
        while self._processes:
            caller, process = self._processes.pop()
            said, _ = process.communicate(timeout=60)
            found = json.loads(said)
            caller.answered, caller.failure = found["answered"], found["failure"].replace("none", "")

    def fine(self) -> bool:
        return not any(caller.failure for caller in self.all) and all(
            process.poll() is None for _, process in self._processes
        )

    def _thread(self, name: str, ask: Callable[[Caller], None]) -> None:
        self.all.append(Caller(name))
        self._threads.append(Thread(target=ask, args=(self.all[-1],)))
        self._threads[-1].start()

    def _process(
        self, name: str, command: list[str], environment: dict[str, str] | None = None
    ) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, **(environment or {})}
        )
        self.all.append(Caller(name))
        self._processes.append((self.all[-1], process))
        return process

    def _ask(self, caller: Caller) -> None:
        with grpc.secure_channel(self.address, self._pki.credentials(), OWN) as channel:
            while not self._stop.is_set() and not caller.failure:
                self._call(caller, channel)

    def _ask_anew(self, caller: Caller) -> None:
        while not self._stop.is_set() and not caller.failure:
            with grpc.secure_channel(self.address, self._pki.credentials(), OWN) as channel:
                self._call(caller, channel)

    def _call(self, caller: Caller, channel: grpc.Channel) -> None:
        stub = RetrievalServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            reply = stub.Retrieve(REQUEST, timeout=60)
        except grpc.RpcError as error:
            caller.failure = str(error)
        else:
            assert len(reply.items) == 3
            self.bundles.add(reply.bundle)
            caller.answered += 1
        time.sleep(PAUSE_SECONDS)

    async def _ask_aio(self, caller: Caller) -> None:
        async with grpc.aio.secure_channel(self.address, self._pki.credentials(), OWN) as channel:
            stub = RetrievalServiceStub(channel)  # type: ignore[no-untyped-call]
            while not self._stop.is_set() and not caller.failure:
                try:
                    await stub.Retrieve(REQUEST, timeout=60)
                    caller.answered += 1
                    await asyncio.sleep(PAUSE_SECONDS)
                except grpc.aio.AioRpcError as error:
                    caller.failure = str(error)


@pytest.fixture(scope="module")
def workspace(
    home_of_two: Path, tmp_path_factory: pytest.TempPathFactory, copy_workspace: Callable[[Path, Path], Path]
) -> Path:
    return copy_workspace(home_of_two, tmp_path_factory.mktemp("processes") / "home")


@pytest.fixture(scope="module")
def registry_of_two(workspace: Path) -> "Registry":
    from rf_platform.registry import Registry

    return Registry.of(Settings(home=workspace, feature_repo=REPOSITORY))


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def server(workspace: Path, pki: Pki) -> Iterator[BackgroundServer]:
    arguments = ["--front", "http2", "--workers", "2", "--metrics-port", "0", "--log-level", "warning"]
    arguments += ["--tls-cert", str(pki.cert), "--tls-key", str(pki.key), "--tls-client-ca", str(pki.ca)]
    with BackgroundServer(workspace, arguments, {"RF_FEATURE_REPO": str(REPOSITORY)}, 280) as server:
        yield server


@pytest.fixture(scope="module")
def callers(server: BackgroundServer, pki: Pki, request: pytest.FixtureRequest) -> Iterator[Callers]:
    """Clients that go on through all tests here."""

    def optional(name: str) -> Any:
        try:
            return request.getfixturevalue(name)
        except pytest.skip.Exception:
            return None

    callers = Callers(joined("127.0.0.1", server.serving["port"]), pki)
    callers.start(optional("go_client"), optional("node_modules"))
    yield callers
    callers.stop()


def metric(server: BackgroundServer, name: str) -> dict[str, float]:
    """Return the values of a metric's samples, by their labels."""
    text = urlopen(f"http://127.0.0.1:{server.serving['metrics_port']}/metrics").read().decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith(name)]
    return {labels: float(value) for labels, _, value in lines}


def wait_for(condition: Callable[[], Any], seconds: float = 200.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_stranger_is_not_let_in(server: BackgroundServer, pki: Pki) -> None:
    address = joined("127.0.0.1", server.serving["port"])
    with grpc.secure_channel(address, pki.credentials(with_own=False), OWN) as channel:
        stub = RetrievalServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError) as raised:
            stub.Retrieve(REQUEST, timeout=20)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


def test_certificates_are_replaced_and_no_call_is_lost(server: BackgroundServer, callers: Callers, pki: Pki) -> None:
    before, port = ssl.PEM_cert_to_DER_cert(pki.cert.read_text()), server.serving["port"]
    assert pki.shown(port) == before
    wait_for(
        lambda: len([v for v in metric(server, "rf_request_seconds_count").values() if v > 5]) == 2
    )  # both workers
    pki.rotate()
    after = ssl.PEM_cert_to_DER_cert(pki.later.read_text())
    assert {pki.shown(port) for _ in range(20)} == {after} != {before}
    new = next(caller for caller in callers.all if caller.name.startswith("a connection"))
    so_far = new.answered
    wait_for(lambda: new.answered > so_far + 5 or not callers.fine())
    assert callers.fine(), [caller.failure for caller in callers.all]


def test_a_bundle_takes_over_and_no_call_is_lost(callers: Callers, registry_of_two: "Registry") -> None:
    registry_of_two.promote(SECOND)
    wait_for(lambda: SECOND in callers.bundles or not callers.fine())
    assert callers.fine(), [caller.failure for caller in callers.all]


def test_a_worker_that_is_told_to_end_is_replaced_and_no_call_is_lost(
    server: BackgroundServer, callers: Callers
) -> None:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    workers = [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGTERM)
    wait_for(lambda: metric(server, "rf_worker_restarts_total") == {"rf_worker_restarts_total": 1.0})
    wait_for(lambda: metric(server, "rf_workers") == {"rf_workers": 2.0})
    assert any('"worker ended"' in line and '"exit_code": 0' in line for line in server.output)
    assert callers.fine(), [caller.failure for caller in callers.all]


def test_at_the_end_no_call_is_lost(server: BackgroundServer, callers: Callers) -> None:
    assert server.stop(60) == 0
    callers.stop()
    assert all(caller.answered > 5 for caller in callers.all), {each.name: each.answered for each in callers.all}
    for (
        caller
    ) in callers.all:  # each ends when nobody listens any more, none because its call was taken and not answered
        assert any(word in caller.failure.lower() for word in ("refused", "connect")), (caller.name, caller.failure)
        assert not any(word in caller.failure.lower() for word in ("closed", "goaway", "reset")), caller.failure
