"""Clients of all kinds against our own HTTP/2 front: grpcio, curl, Node."""

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import grpc
import grpc.aio
import pytest

from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, RetrieveResponse, Session
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceStub
from rf_serving.background_server import BackgroundServer
from rf_serving.front.messages import framed

from .test_protection import certificate

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
RETRIEVE = "/retrievalformer.v1.RetrievalService/Retrieve"
REQUEST = RetrieveRequest(user_id="17", k=3)
NODE_MODULES = os.environ.get("RF_TEST_NODE_MODULES")
"""A folder where ``npm install @grpc/grpc-js`` was run."""


@pytest.fixture(scope="module")
def http2(settings: Any, home: Path) -> Iterator[Any]:
    from ..conftest import running_server

    with running_server(settings, front="http2") as running:
        yield running


def test_the_aio_client_gets_the_answers_of_the_blocking_one(http2: Any) -> None:
    requests = [RetrieveRequest(user_id=str(user), k=5) for user in range(1, 31)] * 4
    blocking = [http2.stub.Retrieve(request).items for request in requests[:30]]

    async def ask() -> list[Any]:
        async with grpc.aio.insecure_channel(http2.server.address) as channel:
            stub = RetrievalServiceStub(channel)  # type: ignore[no-untyped-call]
            return list(await asyncio.gather(*(stub.Retrieve(request, timeout=30) for request in requests)))

    for answer, wanted in zip(asyncio.run(ask()), blocking * 4, strict=True):
        assert [item.item_id for item in answer.items] == [item.item_id for item in wanted]


@pytest.mark.parametrize(
    "compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate]
)
def test_compressed_and_long_requests_are_answered(http2: Any, compression: grpc.Compression) -> None:
    session = Session(history=[Interaction(item_id=str(1 + n % 60), timestamp_us=1 + n) for n in range(20_000)])
    answer = http2.stub.Retrieve(RetrieveRequest(session=session, k=3), compression=compression, timeout=60)
    assert len(answer.items) == 3


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_gets_an_answer(http2: Any, tmp_path: Path) -> None:
    (tmp_path / "request").write_bytes(framed(REQUEST.SerializeToString()))
    command = ["curl", "-sS", "--http2-prior-knowledge", "-D", str(tmp_path / "headers"), "-o", str(tmp_path / "reply")]
    command += [
        "-H",
        "content-type: application/grpc",
        "-H",
        "te: trailers",
        "--data-binary",
        f"@{tmp_path / 'request'}",
    ]
    subprocess.run([*command, f"http://{http2.server.address}{RETRIEVE}"], check=True, timeout=60)
    reply = (tmp_path / "reply").read_bytes()
    assert len(RetrieveResponse.FromString(reply[5:]).items) == 3
    assert "grpc-status: 0" in (tmp_path / "headers").read_text()


SCRIPT = """
const grpc = require('@grpc/grpc-js');
const [address, path, request, large] = process.argv.slice(1);
const same = (b) => b;
const client = new grpc.Client(address, grpc.credentials.createInsecure(), {'grpc.max_receive_message_length': -1});
const call = (path, body, options = {}) => new Promise((resolve) => {
  const metadata = new grpc.Metadata();
  metadata.set('x-request-id', 'from-node');
  let trailers;
  const made = client.makeUnaryRequest(path, same, same, body, metadata, options, (error, reply) => {
    setImmediate(() => resolve({code: error ? error.code : 0, details: error && error.details,
      reply: reply && reply.toString('base64'), id: trailers && trailers.get('x-request-id')[0]}));
  });
  made.on('status', (status) => { trailers = status.metadata; });
});
(async () => {
  const found = {
    good: await call(path, Buffer.from(request, 'base64')),
    wrong: await call(path, Buffer.from('ffffff', 'hex')),
    unknown: await call(path + 'No', Buffer.alloc(0)),
    large: await call(path, Buffer.alloc(Number(large))),
    many: (await Promise.all(Array.from({length: 200}, () => call(path, Buffer.from(request, 'base64'))))).map((r) => r.code),
    health: await call('/grpc.health.v1.Health/Check', Buffer.alloc(0)),
  };
  console.log(JSON.stringify(found));
  client.close();
})();
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.skipif(NODE_MODULES is None, reason="needs RF_TEST_NODE_MODULES: npm install @grpc/grpc-js")
def test_node_gets_answers(http2: Any, tmp_path: Path) -> None:
    import base64

    request = base64.b64encode(REQUEST.SerializeToString()).decode()
    command = ["node", "-e", SCRIPT, "--", http2.server.address, RETRIEVE, request, str(5 * 1024 * 1024)]
    done = subprocess.run(
        command,
        check=True,
        timeout=100,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert len(RetrieveResponse.FromString(base64.b64decode(found["good"]["reply"])).items) == 3
    assert found["good"]["id"] == "from-node"
    assert (found["wrong"]["code"], found["unknown"]["code"], found["large"]["code"]) == (3, 12, 8)
    assert set(found["many"]) <= {0, 8}
    assert found["many"].count(0) >= 100
    assert found["health"]["code"] == 0


def test_workers_with_tls_share_the_port_and_no_call_is_lost_at_the_end(home: Path, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "server")
    arguments = ["--front", "http2", "--workers", "2", "--tls-cert", str(cert), "--tls-key", str(key)]
    credentials = grpc.ssl_channel_credentials(cert.read_bytes())
    own = [("grpc.use_local_subchannel_pool", 1)]
    failures: list[str] = []
    answered: list[int] = []
    stop = Event()

    def ask_again_and_again() -> None:
        with grpc.secure_channel(server.address, credentials, own) as channel:
            stub = RetrievalServiceStub(channel)  # type: ignore[no-untyped-call]
            while not stop.is_set():
                try:
                    answered.append(len(stub.Retrieve(REQUEST, timeout=30).items))
                except grpc.RpcError as error:
                    failures.append(str(error))
                    return

    def workers() -> set[int]:
        lines = [json.loads(line) for line in list(server.output) if '"event": "answered"' in line]
        return {line["worker"] for line in lines}

    with BackgroundServer(home, arguments, {"RF_FEATURE_REPO": str(REPOSITORY)}, 280) as server:
        threads = [Thread(target=ask_again_and_again) for _ in range(8)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 60
        while workers() != {0, 1} and time.monotonic() < until:
            time.sleep(0.05)
        assert workers() == {0, 1}
        assert server.stop() == 0
        for thread in threads:
            thread.join(60)
    assert set(answered) == {3}
    # Each ends when nobody listens any more, none because its call was taken and not answered.
    assert len(failures) == 8
    assert all("UNAVAILABLE" in failure and "connect" in failure.lower() for failure in failures), failures
    assert not any("closed" in failure.lower() or "goaway" in failure.lower() for failure in failures), failures
