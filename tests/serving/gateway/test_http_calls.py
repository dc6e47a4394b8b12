"""Calls over HTTP: the answers, checks, log lines and metrics of gRPC, by the same handlers."""

import json
import random
import time
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from structlog.testing import LogCapture

from rf_fuzz.messages import random_message
from rf_fuzz.requests import SERVICES
from rf_fuzz.words import Words
from rf_protos.v1.retrieval_pb2 import RetrieveRequest, RetrieveResponse
from rf_serving.gateway.replies import HTTP_STATUSES, code_of
from rf_serving.server.options import Limits
from rf_serving.server.rpc import METHOD_ROLES, Role

from ..conftest import RunningServer, running_server
from .conftest import RETRIEVE, Client

READING = [
    method
    for service in SERVICES
    for method in service.methods
    if METHOD_ROLES[service.name][method.name] is not Role.WRITE
]


def over_grpc(running: RunningServer, path: str, message: bytes) -> tuple[str, Any]:
    try:
        return "OK", running.channel.unary_unary(path, None, None)(message, timeout=60)
    except grpc.RpcError as raised:
        error: Any = raised
        return error.code().name, error.details()


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "timings"}


@pytest.mark.parametrize("method", READING, ids=lambda each: each.name)
def test_json_and_grpc_give_the_same_answers(running: RunningServer, client: Client, method: Any) -> None:
    path = f"/{method.containing_service.full_name}/{method.name}"
    request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    answered = 0
    for seed in range(40):
        message = random_message(request, random.Random(f"{path}{seed}"), Words())
        if isinstance(message, RetrieveRequest):
            message.explain = False  # as far as there is time
            if seed % 2:  # what gets through
                message = RetrieveRequest(user_id=str(1 + seed % 30), k=seed, exclude_seen=seed % 3 == 0)
        status, wanted = over_grpc(running, path, message.SerializeToString())
        found = client.post(path, json_format.MessageToDict(message))
        assert found.status == HTTP_STATUSES[status], (message, wanted, found)
        if status == "OK":
            answered += 1
            told = json_format.MessageToDict(response.FromString(wanted))
            assert without_times(found.json) == without_times(told)
        else:
            assert (found.json["code"], found.json["message"]) == (code_of(status), wanted)
            assert found.json["field"] is None or wanted.startswith(found.json["field"] + ": ")
    assert answered > 0


def test_a_call_has_the_log_line_the_metrics_and_the_id_of_any_other(
    running: RunningServer, client: Client, logs: LogCapture
) -> None:
    counted = {"method": "Retrieve", "status": "OK"}
    before = running.metrics.registry.get_sample_value("rf_requests_total", counted) or 0
    answer = client.post(RETRIEVE, {"userId": "17", "k": 3}, x_request_id="from-http")
    assert (answer.status, answer.headers["x-request-id"]) == (200, "from-http")
    deadline = time.monotonic() + 10
    while not (lines := [each for each in logs.entries if each.get("request_id") == "from-http"]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert {"event": "answered", "method": "Retrieve", "status": "OK", "k": 3}.items() <= lines[0].items()
    assert running.metrics.registry.get_sample_value("rf_requests_total", counted) == before + 1
    wrong = client.post(RETRIEVE, {"userId": 17, "k": 3}, x_request_id="wrong")
    assert wrong.json == {"code": "invalid_argument", "message": "user_id: 17 is no text", "field": "user_id"}
    assert wrong.headers["x-request-id"] == "wrong"


def test_the_serialised_message_is_taken_too(client: Client) -> None:
    body = RetrieveRequest(user_id="17", k=3).SerializeToString()
    answer = client.ask("POST", RETRIEVE, body, content_type="application/proto")
    assert answer.headers["content-type"] == "application/proto"
    assert len(RetrieveResponse.FromString(answer.body).items) == 3


@pytest.mark.parametrize(
    ("verb", "path", "headers", "status", "code"),
    [
        ("GET", RETRIEVE, {}, 405, "unimplemented"),
        ("POST", RETRIEVE + "2", {}, 404, "unimplemented"),
        ("GET", "/nothing", {}, 404, "not_found"),
        ("POST", RETRIEVE, {"content_type": "text/plain"}, 415, "invalid_argument"),
        ("POST", RETRIEVE, {"content_encoding": "gzip"}, 415, "invalid_argument"),
        ("POST", RETRIEVE, {"connect_timeout_ms": "soon"}, 400, "invalid_argument"),
        ("POST", RETRIEVE, {"connect_timeout_ms": "0"}, 504, "deadline_exceeded"),
        ("POST", RETRIEVE, {"host": "evil.example"}, 403, "permission_denied"),
        ("POST", RETRIEVE, {"x_long": "y" * 20_000}, 431, "invalid_argument"),
    ],
)
def test_what_is_no_call_is_refused(
    client: Client, verb: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    given = {"content_type": "application/json", **headers}
    answer = client.ask(verb, path, b'{"userId":"17","k":3}' if verb == "POST" else None, **given)
    assert (answer.status, answer.json["code"]) == (status, code)


def test_every_status_has_its_place_in_http() -> None:
    assert set(HTTP_STATUSES) == {status.name for status in grpc.StatusCode}


def test_what_is_too_large_too_late_or_too_much_is_refused(settings: Any, home: Any) -> None:
    limits = Limits(max_message_bytes=20_000)
    options: dict[str, Any] = {"limits": limits, "deadline_seconds": 0.5, "max_in_flight": 1, "fetch_seconds": 0.4}
    with running_server(settings, http_port=0, **options) as running:
        client = Client(running)
        large = client.post(RETRIEVE, {"userId": "1" * 25_000, "k": 1})
        assert (large.status, large.json["code"]) == (413, "resource_exhausted")
        client = Client(running)
        client.connection.putrequest("POST", RETRIEVE)
        client.connection.putheader("content-type", "application/json")
        client.connection.putheader("content-length", "30")
        client.connection.endheaders(b'{"userId":')
        late = client.connection.getresponse()
        assert (late.status, json.loads(late.read())["code"]) == (408, "deadline_exceeded")
        assert running.admission.enter()
        try:
            refused = Client(running).post(RETRIEVE, {"userId": "1", "k": 1})
        finally:
            running.in_loop(left(running)).result(10)
        assert (refused.status, refused.json["code"], refused.headers["retry-after"]) == (
            429,
            "resource_exhausted",
            "1",
        )
        assert refused.headers["grpc-retry-pushback-ms"]
        silent = Client(running)
        silent.connection.connect()
        silent.connection.sock.sendall(b"POST /x HTTP/1.1\r\nhost: loc")
        silent.connection.sock.settimeout(10)
        assert silent.connection.sock.recv(100) == b""  # closed


async def left(running: RunningServer) -> None:
    running.admission.leave()


def test_a_call_ends_when_its_caller_leaves(running: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(*_: Any) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    monkeypatch.setattr(running.retriever, "retrieve", slow)
    monkeypatch.setattr(running.retriever, "take", lambda *_: None)  # nothing is quick
    client = Client(running)
    body = b'{"userId":"17","k":3}'
    headers = {"content-type": "application/json"}
    client.connection.request("POST", RETRIEVE, body, headers)
    running.in_loop(begun.wait()).result(20)
    client.connection.close()
    running.in_loop(ended.wait()).result(20)
    assert running.admission.active == 0


def test_a_drain_finishes_what_is_being_answered(settings: Any, home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    with running_server(settings, http_port=0) as running:
        begun, go_on = asyncio.Event(), asyncio.Event()
        retrieve = running.retriever.retrieve

        async def slow(*given: Any) -> Any:
            begun.set()
            await go_on.wait()
            return await retrieve(*given)

        monkeypatch.setattr(running.retriever, "retrieve", slow)
        monkeypatch.setattr(running.retriever, "take", lambda *_: None)  # nothing is quick
        idle, client = Client(running), Client(running)
        assert idle.ask("GET", "/healthz").json == {"status": "SERVING"}
        client.connection.request("POST", RETRIEVE, b'{"userId":"17","k":3}', {"content-type": "application/json"})
        running.in_loop(begun.wait()).result(20)
        draining = running.in_loop(running.server.drain(20))
        time.sleep(0.1)
        with pytest.raises(ConnectionRefusedError):
            Client(running).ask("GET", "/healthz")
        running.loop.call_soon_threadsafe(go_on.set)
        reply = client.connection.getresponse()
        assert (reply.status, reply.getheader("connection")) == (200, "close")
        assert len(json.loads(reply.read())["items"]) == 3
        assert draining.result(30)
