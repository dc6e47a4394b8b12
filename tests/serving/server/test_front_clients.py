"""Clients of all kinds against our own HTTP/2 front: grpcio, curl, Node, Go."""

import asyncio
import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, RetrieveResponse, Session
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceStub
from rf_serving.front.messages import framed
from rf_serving.server.rpc import Role
from rf_serving.server.tls import TlsFiles
from rf_serving.server.tokens import add_token

from .test_protection import certificate

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
RETRIEVE = "/retrievalformer.v1.RetrievalService/Retrieve"
REQUEST = RetrieveRequest(user_id="17", k=3)
CLIENTS = Path(__file__).parents[1] / "clients"


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


def test_node_gets_answers(http2: Any, node_modules: str, tmp_path: Path) -> None:
    request = base64.b64encode(REQUEST.SerializeToString()).decode()
    command = ["node", str(CLIENTS / "client.js"), http2.server.address, RETRIEVE, request, str(5 * 1024 * 1024)]
    done = subprocess.run(
        command,
        check=True,
        timeout=100,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "NODE_PATH": node_modules},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert len(RetrieveResponse.FromString(base64.b64decode(found["good"]["reply"])).items) == 3
    assert found["good"]["id"] == "from-node"
    assert (found["wrong"]["code"], found["unknown"]["code"], found["large"]["code"]) == (3, 12, 8)
    assert set(found["many"]) <= {0, 8}
    assert found["many"].count(0) >= 100
    assert found["health"]["code"] == 0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_go_gets_answers_over_tls_with_a_token(settings: Any, home: Path, go_client: Path, tmp_path: Path) -> None:
    from ..conftest import running_server

    cert, key = certificate(tmp_path, "server")
    tokens = tmp_path / "tokens.json"
    session = Session(history=[Interaction(item_id=str(1 + n % 60), timestamp_us=1 + n) for n in range(60_000)])
    asked = {
        "Address": "",
        "Authority": str(cert),
        "Path": RETRIEVE,
        "Token": add_token(tokens, "go", Role.READ),
        "Request": base64.b64encode(REQUEST.SerializeToString()).decode(),
        "Long": base64.b64encode(RetrieveRequest(session=session, k=3).SerializeToString()).decode(),
        "TooLong": base64.b64encode(bytes(5 * 1024 * 1024)).decode(),
    }
    tls = TlsFiles(certificate=cert, key=key)
    with running_server(settings, front="http2", tls=tls, tokens=tokens) as running:
        given = json.dumps(asked | {"Address": running.server.address})
        done = subprocess.run([str(go_client)], input=given, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    codes = {name: each["Code"] for name, each in found.items() if isinstance(each, dict)}
    late = codes.pop("late")
    assert codes == {
        "good": 0,
        "after": 0,
        "gzip": 0,
        "long": 0,
        "too long": 8,
        "wrong": 3,
        "unknown": 12,
        "stranger": 16,
    }
    assert late in (0, 4)
    for name in ("good", "gzip", "long"):
        reply = RetrieveResponse.FromString(base64.b64decode(found[name]["Reply"]))
        assert len(reply.items) == 3
    assert found["good"]["Id"] == ["from-go"]
    assert "no message that Retrieve takes" in found["wrong"]["Details"]
    assert "larger than max" in found["too long"]["Details"]
    assert set(found["many"]) <= {0, 8}
    assert found["many"].count(0) >= 100
    assert found["health"] == ["SERVING", "SERVING"]
    assert {"grpc.health.v1.Health", "retrievalformer.v1.RetrievalService"} <= set(found["services"])
    assert found["cancelled"] == 1
