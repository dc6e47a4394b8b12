"""Connections: who may ping, what never becomes a call, which addresses there are, and who describes the services."""

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from rf_platform.settings import Settings
from rf_protos.v1.retrieval_pb2 import RetrieveRequest, RetrieveResponse
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceStub

pytestmark = pytest.mark.both_fronts
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PING, GOAWAY = 6, 7


def frame(kind: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, 0, 0) + payload


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=20)


def ping(address: str, times: int) -> list[int]:
    """Ping a server every 0.1 s and return the kinds of the frames it sends."""
    kinds: list[int] = []
    with connect(address) as connection:
        connection.sendall(PREFACE + frame(4))
        stream = connection.makefile("rb")
        for number in range(times):
            try:
                connection.sendall(frame(PING, struct.pack(">Q", number)))
            except OSError:  # sent away
                break
            while header := stream.read(9):
                kinds.append(header[3])
                stream.read(int.from_bytes(header[:3]))
                if kinds[-1] in (PING, GOAWAY):
                    break
            if kinds[-1] == GOAWAY:
                break
            time.sleep(0.1)
    return kinds


@pytest.fixture(scope="module")
def hasty(settings: Settings, home: Any, start_server: Callable[..., Any]) -> Iterator[Any]:
    with start_server(settings, deadline_seconds=0.5, min_ping_seconds=0.02) as running:
        yield running


def test_clients_may_ping_as_often_as_the_server_says_and_no_more_often(server: Any, hasty: Any) -> None:
    assert ping(hasty.server.address, 8).count(PING) == 8
    assert ping(server.server.address, 8)[-1] == GOAWAY  # within five seconds there


@pytest.mark.parametrize("limit", ["connection_idle_seconds", "connection_age_seconds"])
def test_connections_have_a_life(settings: Settings, home: Any, start_server: Callable[..., Any], limit: str) -> None:
    with start_server(settings, min_ping_seconds=0.02, **{limit: 0.3}) as running:
        assert GOAWAY in ping(running.server.address, 100)
        assert len(running.stub.Retrieve(RetrieveRequest(user_id="1", k=3), timeout=20).items) == 3


def test_a_connection_that_says_nothing_is_closed(hasty: Any) -> None:
    for said in (b"", PREFACE[:10], PREFACE):
        with connect(hasty.server.address) as silent:
            silent.sendall(said)
            while silent.recv(1000):  # its own settings, then the end; else this times out
                pass


def test_connections_have_a_largest_number(
    settings: Settings, home: Any, start_server: Callable[..., Any], wait_until: Callable[..., None], server_front: str
) -> None:
    with start_server(settings, max_connections=3) as running:
        assert running.stub.Retrieve(RetrieveRequest(user_id="1", k=3), timeout=20).items

        def taken() -> bool:
            try:
                opened.append(connection := connect(running.server.address))
                connection.sendall(PREFACE + frame(4))
                return connection.recv(9)[3:4] == b"\x04"
            except ConnectionError:
                return False

        opened: list[socket.socket] = []
        assert [taken() for _ in range(4)] == [True, True, False, False]
        assert running.stub.Retrieve(RetrieveRequest(user_id="1", k=3), timeout=20).items
        value = running.metrics.registry.get_sample_value
        if server_front == "http2":
            assert (value("rf_connections"), value("rf_refused_connections_total")) == (3, 2)
        for connection in opened:
            connection.close()
        wait_until(taken)
        for connection in opened:
            connection.close()


_LIMITS = """
import resource, sys
from rf_serving.server.open_files import room_for
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(room_for(wanted), resource.getrlimit(resource.RLIMIT_NOFILE)[0], file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("soft", "hard", "fit", "after"), [(256, 4096, 1000, 1512), (2000, 4096, 1000, 2000), (256, 600, 88, 600)]
)
def test_the_limit_of_open_files_is_raised_as_far_as_it_may(soft: int, hard: int, fit: int, after: int) -> None:
    command = [sys.executable, "-c", _LIMITS, str(soft), str(hard), "1000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr.split() == [str(fit), str(after)]
    assert ("fewer connections than --max-connections" in done.stdout) is (fit < 1000)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("/retrievalformer.v1.RetrievalService/Retrieve", RetrieveResponse),
        ("/grpc.health.v1.Health/Check", health_pb2.HealthCheckResponse),
    ],
)
def test_a_call_without_a_message_is_answered(hasty: Any, method: str, answer: Any) -> None:
    call = hasty.channel.stream_unary(method, None, answer.FromString)
    with pytest.raises(grpc.RpcError) as ended:
        call(iter([]), timeout=20)
    assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert ended.value.details() == "the call ended without a message; send one"

    def never() -> Iterator[bytes]:
        time.sleep(5)
        yield b""

    begin = time.monotonic()
    with pytest.raises(grpc.RpcError) as waited:
        call(never(), timeout=20)
    assert waited.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert waited.value.details() == "the message did not come within 0.5 s"
    assert time.monotonic() - begin < 5


def test_calls_without_a_message_are_counted_and_take_no_place(hasty: Any, wait_until: Callable[..., None]) -> None:
    def counted() -> float:
        labels = {"method": "Retrieve", "status": "INVALID_ARGUMENT"}
        return hasty.metrics.registry.get_sample_value("rf_requests_total", labels) or 0.0

    wait_until(lambda: not hasty.server._interceptor.reports.active)
    before = counted()
    for _ in range(3):
        with pytest.raises(grpc.RpcError):
            hasty.channel.stream_unary("/retrievalformer.v1.RetrievalService/Retrieve")(iter([]), timeout=20)
    wait_until(lambda: counted() == before + 3)
    assert hasty.admission.active == 0


@pytest.mark.parametrize("host", ["::1", "[::1]", "::", "127.0.0.1", "localhost"])
def test_addresses_are_written_as_they_are_known(
    settings: Settings, home: Any, start_server: Callable[..., Any], host: str
) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with start_server(settings, host=host, insecure=True) as running:
        bare = host.strip("[]")
        shown = f"[{bare}]" if ":" in bare else bare
        assert running.server.address == f"{shown}:{running.server.port}"
        reached = running.server.address.replace("[::]", "[::1]")
        with grpc.insecure_channel(reached) as channel:
            stub = RetrievalServiceStub(channel)  # type: ignore[no-untyped-call]
            assert len(stub.Retrieve(RetrieveRequest(user_id="1", k=3), timeout=20).items) == 3


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_both_reflections_describe_all_services_and_themselves(server: Any, version: str) -> None:
    call = server.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )

    def ask(**wanted: Any) -> Any:
        return next(iter(call(iter([reflection_pb2.ServerReflectionRequest(**wanted)]), timeout=20)))

    names = {service.name for service in ask(list_services="").list_services_response.service}
    assert {f"grpc.reflection.{v}.ServerReflection" for v in ("v1", "v1alpha")} <= names
    assert {service.name for service in server.parts.services} < names
    for name in names:
        files = ask(file_containing_symbol=name).file_descriptor_response.file_descriptor_proto
        found = [descriptor_pb2.FileDescriptorProto.FromString(each) for each in files]
        services = {f"{file.package}.{service.name}" for file in found for service in file.service}
        assert name in services
