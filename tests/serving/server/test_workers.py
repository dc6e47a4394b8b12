"""``rf serve --workers``: processes behind one port."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from select import select
from typing import Any
from urllib.request import Request, urlopen

import grpc
import pytest

from rf_platform.errors import RunError, UsageError
from rf_platform.settings import Settings
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceStub
from rf_serving.background_server import BackgroundServer
from rf_serving.server.admission import Admission
from rf_serving.server.metrics import ServerMetrics
from rf_serving.server.options import ServeOptions
from rf_serving.server.server import RetrievalServer
from rf_serving.server.shared_port import shared_port
from rf_serving.server.supervisor import _wakes_at_signals

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
ENVIRONMENT = {"RF_FEATURE_REPO": str(REPOSITORY)}


@pytest.fixture(scope="module")
def workspace(
    home: Path, tmp_path_factory: pytest.TempPathFactory, copy_workspace: Callable[[Path, Path], Path]
) -> Path:
    """A workspace whose definitions may be changed."""
    return copy_workspace(home, tmp_path_factory.mktemp("workers") / "home")


@pytest.fixture(scope="module")
def server(workspace: Path) -> Iterator[BackgroundServer]:
    with BackgroundServer(
        workspace, ["--workers", "2", "--metrics-port", "0", "--http-port", "0"], ENVIRONMENT, 280
    ) as server:
        yield server


def lines(server: BackgroundServer, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in list(server.output) if line.startswith("{")]
    return [line for line in found if line["event"] == event]


def ask(server: BackgroundServer, request_id: str = "x") -> None:
    """One call over a connection of its own, which the kernel hands to one of the workers."""
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = RetrievalServiceStub(channel)  # type: ignore[no-untyped-call]
        request = RetrieveRequest(user_id="17", k=3)
        metadata = [("x-request-id", request_id)]
        assert len(stub.Retrieve(request, timeout=30, wait_for_ready=True, metadata=metadata).items) == 3


def ask_over_http(server: BackgroundServer, request_id: str) -> None:
    headers = {"content-type": "application/json", "x-request-id": request_id}
    url = f"http://127.0.0.1:{server.serving['http_port']}/retrievalformer.v1.RetrievalService/Retrieve"
    with urlopen(Request(url, b'{"userId": "17", "k": 3}', headers)) as reply:
        assert len(json.loads(reply.read())["items"]) == 3


def metrics(server: BackgroundServer) -> str:
    return str(urlopen(f"http://127.0.0.1:{server.serving['metrics_port']}/metrics").read().decode())


def wait_for(condition: Any, seconds: float = 200.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_workers_share_the_port_and_the_metrics_page(server: BackgroundServer) -> None:
    assert server.serving["workers"] == 2
    answered: set[int] = set()
    for turn in range(60):
        ask(server, f"shared-{turn}")
        answered = {line["worker"] for line in lines(server, "answered")}
        if answered == {0, 1}:
            break
    assert answered == {0, 1}
    line = next(line for line in lines(server, "answered") if line["request_id"] == "shared-0")
    assert (line["method"], line["status"], line["bundle"]) == ("Retrieve", "OK", "tiny-run-1")
    called: set[int] = set()
    for turn in range(60):
        ask_over_http(server, f"http-{turn}")
        called = {line["worker"] for line in lines(server, "answered") if line["request_id"].startswith("http-")}
        if called == {0, 1}:
            break
    assert called == {0, 1}
    text = metrics(server)
    for worker in (0, 1):
        assert f'rf_stage_seconds_count{{stage="encode",worker="{worker}"}}' in text
        assert f'process_resident_memory_bytes{{worker="{worker}"}}' in text
    assert "rf_workers 2.0" in text


@pytest.mark.parametrize("workers", ["1", "2"])
def test_another_server_is_refused_the_port(server: BackgroundServer, home: Path, workers: str) -> None:
    port = str(server.serving["port"])
    second = BackgroundServer(home, ["--workers", workers, "--port", port], ENVIRONMENT)
    second._command.remove("0")  # of the --port 0 that stands before
    second._command.remove("--port")
    with pytest.raises(RunError, match=f"127.0.0.1:{port} cannot be bound"), second:
        pass


def test_a_worker_that_dies_is_started_again_also_when_features_were_added(
    server: BackgroundServer, workspace: Path
) -> None:
    from rf_platform.features.apply import apply_definitions

    repository = workspace / "repository"
    shutil.copytree(REPOSITORY, repository, ignore=shutil.ignore_patterns("__pycache__"))
    users = (repository / "users.py").read_text()
    (repository / "users.py").write_text(users.replace("schema=[", 'schema=[Field(name="country", dtype=String),', 1))
    apply_definitions(Settings(home=workspace, feature_repo=repository))
    ready = lines(server, "worker ready")
    os.kill(next(line["pid"] for line in ready if line["worker"] == 1), signal.SIGKILL)
    wait_for(lambda: lines(server, "worker ended"))
    (ended,) = lines(server, "worker ended")
    assert (ended["worker"], ended["exit_code"], ended["again_in_seconds"]) == (1, -9, 1)
    for _ in range(5):
        ask(server)  # by the other one
    wait_for(lambda: len(lines(server, "worker ready")) == len(ready) + 1)
    text = metrics(server)
    assert "rf_workers 2.0" in text
    assert "rf_worker_restarts_total 1.0" in text
    (noted,) = lines(server, "other features")
    assert (noted["worker"], noted["bundle"], noted["added"]) == (1, "tiny-run-1", ["user_profile__country"])


def test_a_closed_terminal_ends_no_worker_by_itself(server: BackgroundServer) -> None:
    """It sends SIGHUP to every process of the server; the supervisor drains the workers, or goes on under ``nohup``."""
    ended = len(lines(server, "worker ended"))
    workers = {line["worker"]: line["pid"] for line in lines(server, "worker ready")}
    for pid in workers.values():
        os.kill(pid, signal.SIGHUP)
    for _ in range(10):
        ask(server)
    assert len(lines(server, "worker ended")) == ended
    for pid in workers.values():
        os.kill(pid, 0)


@pytest.mark.parametrize("nohup", [False, True])
def test_the_supervisor_wakes_at_a_hangup_unless_told_to_ignore_it(nohup: bool) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)
    try:
        with _wakes_at_signals() as wake:
            os.kill(os.getpid(), signal.SIGHUP)
            assert select([wake], [], [], 0.2)[0] == ([] if nohup else [wake])
            os.kill(os.getpid(), signal.SIGTERM)
            assert select([wake], [], [], 5)[0] == [wake]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_sigterm_drains_all_workers(server: BackgroundServer) -> None:
    pids = [line["pid"] for line in lines(server, "worker ready")]
    assert server.stop(60) == 0
    assert len(lines(server, "stopped")) == 3  # both workers and the supervisor
    assert all(line["all_calls_finished"] for line in lines(server, "stopped"))
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_what_is_wrong_with_all_workers_is_said_once(home: Path, tmp_path: Path) -> None:
    missing = ["--workers", "2", "--bundle", "nothing-like-it"]
    with pytest.raises(RunError) as raised, BackgroundServer(home, missing, ENVIRONMENT, 280):
        pass
    assert str(raised.value).count("no bundle 'nothing-like-it'") == 1
    assert "Traceback" not in str(raised.value)


_ORPHAN = """
import time
from multiprocessing import get_context
from rf_serving.server.process import _end_with_parent

def work():
    print(__import__("os").getpid(), flush=True)
    _end_with_parent()
    time.sleep(60)

if __name__ == "__main__":
    get_context("spawn").Process(target=work).start()
    time.sleep(60)
"""


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    (tmp_path / "supervisor.py").write_text(_ORPHAN)
    command = [sys.executable, str(tmp_path / "supervisor.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        worker = int(supervisor.stdout.readline())
        supervisor.kill()
        wait_for(lambda: not alive(worker))


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_port_is_held_and_shared() -> None:
    with shared_port("127.0.0.1", 0) as port, socket.socket() as worker:
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind(("127.0.0.1", port))
        worker.listen()
        with pytest.raises(UsageError, match="cannot be bound"), shared_port("127.0.0.1", port):
            pass
    with pytest.raises(UsageError, match=r"192\.0\.2\.1"), shared_port("192.0.2.1", 0):
        pass


def test_a_worker_does_not_listen_before_it_has_loaded() -> None:
    """The kernel would hand it connections, and nobody would answer them."""

    async def made(port: int, *, shared: bool) -> RetrievalServer:
        options = ServeOptions(host="127.0.0.1", port=port)
        return RetrievalServer(options, ServerMetrics(), Admission(4), shared_port=shared)

    def listens(port: int) -> bool:
        with socket.socket() as caller:
            return caller.connect_ex(("127.0.0.1", port)) == 0

    async def run() -> tuple[bool, bool]:
        with shared_port("127.0.0.1", 0) as port:
            worker = await made(port, shared=True)
            assert worker.address == f"127.0.0.1:{port}"
            found = listens(port)
        alone = await made(0, shared=False)
        return found, listens(alone.port)

    assert asyncio.run(run()) == (False, True)
