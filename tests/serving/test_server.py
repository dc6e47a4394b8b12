"""The server around the answers: health, reflection, request ids, errors, metrics, load, drain."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import LogCapture

from rf_platform.errors import UsageError
from rf_platform.settings import Settings
from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, Session
from rf_serving.server.admission import Admission
from rf_serving.server.metrics import ServerMetrics, exposed
from rf_serving.server.options import ServeOptions
from rf_serving.server.server import SERVICE, RetrievalServer

pytestmark = pytest.mark.both_fronts
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SLOW = Session(history=[Interaction(item_id=str(1 + i % 60), timestamp_us=1 + i) for i in range(20_000)])
"""A session that takes a good part of a second to read."""


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health_says_serving(server: Any, service: str) -> None:
    health = health_pb2_grpc.HealthStub(server.channel)
    assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING


def test_health_of_an_unknown_service_is_not_found(server: Any) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest(service="other"))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_service_and_its_messages(server: Any) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="retrievalformer.v1.Session"),
    ]
    listed, described = stub.ServerReflectionInfo(iter(requests))
    assert {s.name for s in listed.list_services_response.service} >= {SERVICE, "grpc.health.v1.Health"}
    assert b"history" in described.file_descriptor_response.file_descriptor_proto[0]


def trailer(call: Any) -> dict[str, str]:
    return dict(call.trailing_metadata())


def test_the_request_id_comes_back(stub: Any) -> None:
    request = RetrieveRequest(user_id="17", k=1)
    _, call = stub.Retrieve.with_call(request, metadata=[("x-request-id", "abc-123")])
    assert trailer(call)["x-request-id"] == "abc-123"
    _, call = stub.Retrieve.with_call(request)
    assert len(trailer(call)["x-request-id"]) == 32
    _, call = stub.Retrieve.with_call(request, metadata=[("x-request-id", "a b c" * 100)])
    assert len(trailer(call)["x-request-id"]) == 32  # not fit for a log
    with pytest.raises(grpc.RpcError) as raised:
        stub.Retrieve(RetrieveRequest(), metadata=[("x-request-id", "wrong-1")])
    assert trailer(raised.value)["x-request-id"] == "wrong-1"


def test_concurrent_requests_get_their_own_answers(stub: Any) -> None:
    users = [str(u) for u in range(1, 31)] * 5
    alone = {u: stub.Retrieve(RetrieveRequest(user_id=u, k=10, exclude_seen=True)).items for u in set(users)}
    with ThreadPoolExecutor(16) as threads:
        together = threads.map(
            lambda u: stub.Retrieve(RetrieveRequest(user_id=u, k=10, exclude_seen=True)).items, users
        )
        for user, items in zip(users, together, strict=True):
            assert [i.item_id for i in items] == [i.item_id for i in alone[user]]
            # They are encoded together: the last digit of a score may differ.
            assert [i.score for i in items] == pytest.approx([i.score for i in alone[user]], abs=1e-5)


def test_a_bug_is_internal_and_tells_the_caller_nothing(
    settings: Settings, home: Path, start_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, logs: LogCapture
) -> None:
    said = len(logs.entries)
    with start_server(settings) as running:
        monkeypatch.setattr(running.retriever.engine._quick, "_encoder", None)
        with pytest.raises(grpc.RpcError) as raised:
            running.stub.Retrieve(RetrieveRequest(user_id="17", k=1), metadata=[("x-request-id", "bug-7")])
        assert raised.value.code() is grpc.StatusCode.INTERNAL
        assert raised.value.details() == "internal error; the server's log has it under the request id"
    failed, answered = [entry for entry in logs.entries[said:] if entry.get("request_id") == "bug-7"]
    assert (failed["event"], failed["log_level"], type(failed["exc_info"])) == ("failed", "error", AttributeError)
    assert (answered["event"], answered["status"]) == ("answered", "INTERNAL")


def test_without_its_online_store_the_server_answers_degraded(
    home_copy: Path, start_server: Callable[..., Any]
) -> None:
    settings = Settings(home=home_copy, feature_repo=Path(__file__).parents[2] / "feature_repo" / "movielens")
    with start_server(settings) as running:
        with sqlite3.connect(home_copy / "feast" / "online.db") as database:
            database.execute("DROP TABLE movielens_user_profile")
        for _ in range(5):
            answer = running.stub.Retrieve(RetrieveRequest(user_id="17", k=3))
            assert answer.degraded
            assert len(answer.items) == 3
        assert running.metrics.registry.get_sample_value("rf_store_down") == 1
        wait_for_active(running, lambda active: active == 0)
        assert (running.metrics.registry.get_sample_value("rf_degraded_answers_total") or 0) >= 5
        # what needs no store is answered as ever
        assert not running.stub.Retrieve(RetrieveRequest(session=Session(), k=1)).degraded


def wait_for_active(server: Any, reached: Callable[[float], bool]) -> None:
    deadline = time.monotonic() + 10
    while not reached(server.metrics.registry.get_sample_value("rf_active_requests")):
        assert time.monotonic() < deadline, "the calls did not arrive, or did not end"
        time.sleep(0.005)


def test_metrics_count_calls_and_stages(server: Any, stub: Any) -> None:
    stub.Retrieve(RetrieveRequest(user_id="999", k=1))
    with pytest.raises(grpc.RpcError):
        stub.Retrieve(RetrieveRequest())
    wait_for_active(server, lambda active: active == 0)  # a call is counted after its reply has left
    with exposed(server.metrics.registry, "127.0.0.1", 0) as port:
        text = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    for line in (
        'rf_requests_total{method="Retrieve",status="OK"}',
        'rf_requests_total{method="Retrieve",status="INVALID_ARGUMENT"}',
        'rf_request_seconds_bucket{le="0.001",method="Retrieve"}',
        'rf_stage_seconds_count{stage="fetch"}',
        'rf_stage_seconds_count{stage="encode"}',
        'rf_stage_seconds_count{stage="search"}',
        'rf_stage_seconds_count{stage="filter"}',
        "rf_cold_answers_total",
        "rf_active_requests 0.0",
    ):
        assert line in text


def test_an_address_in_use_is_refused(server: Any) -> None:
    async def bind() -> None:
        RetrievalServer(ServeOptions(port=server.server.port), ServerMetrics(), Admission(8))

    with pytest.raises(UsageError, match=f"127.0.0.1:{server.server.port} cannot be bound"):
        server.in_loop(bind()).result(10)


def test_a_drain_finishes_calls_in_flight_and_takes_no_more(
    settings: Settings, home: Path, start_server: Callable[..., Any]
) -> None:
    with start_server(settings) as running:
        watch = health_pb2_grpc.HealthStub(running.channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert next(watch).status == SERVING
        slow = [running.stub.Retrieve.future(RetrieveRequest(session=SLOW, k=3)) for _ in range(2)]
        wait_for_active(running, lambda active: active >= 2)
        begin = time.monotonic()
        drained = running.in_loop(running.server.drain(30))
        assert next(watch).status == NOT_SERVING
        assert drained.result(30) is True
        assert time.monotonic() - begin < 20  # the open watch does not hold it
        assert all(len(call.result().items) == 3 for call in slow)
        with pytest.raises(grpc.RpcError) as raised:
            running.stub.Retrieve(RetrieveRequest(user_id="17", k=1))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_drain_ends_at_its_limit(settings: Settings, home: Path, start_server: Callable[..., Any]) -> None:
    with start_server(settings) as running:
        slow = [running.stub.Retrieve.future(RetrieveRequest(session=SLOW, k=3)) for _ in range(4)]
        wait_for_active(running, lambda active: active >= 4)
        assert running.in_loop(running.server.drain(0.01)).result(30) is False
        assert any(call.exception() is not None for call in slow)


def test_logs_are_json_on_standard_output() -> None:
    code = (
        "import logging; from rf_serving.logs import configure_logs; configure_logs('info'); import structlog\n"
        "structlog.get_logger('rf_serving').info('hello', k=3)\n"
        "logging.getLogger('other').warning('careful')\n"
        "logging.getLogger('other').info('not shown')\n"
        "structlog.get_logger('rf_serving').debug('not shown')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [("hello", "info"), ("careful", "warning")]
    assert lines[0]["k"] == 3
