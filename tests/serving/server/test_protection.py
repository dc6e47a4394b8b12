"""TLS, tokens and roles, deadlines, limits, shedding."""

import asyncio
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import LogCapture

from rf_platform.errors import ConfigError, UsageError
from rf_platform.settings import Settings
from rf_protos.v1.catalog_pb2 import Item, UpsertItemsRequest
from rf_protos.v1.catalog_pb2_grpc import CatalogServiceStub
from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, Session
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceStub
from rf_serving.client import RetrievalClient
from rf_serving.front import receiver
from rf_serving.front.messages import Packed, unpacked
from rf_serving.retrieval.engine import Engine
from rf_serving.server.options import Limits, ServeOptions, is_loopback
from rf_serving.server.rpc import Role
from rf_serving.server.tls import TlsFiles
from rf_serving.server.tokens import add_token, remove_token

pytestmark = pytest.mark.both_fronts
REQUEST = RetrieveRequest(user_id="17", k=3)


def status(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
    try:
        call(*arguments, timeout=30, **options)
    except grpc.RpcError as error:
        return error.code(), str(error.details())
    return grpc.StatusCode.OK, ""


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


# Tokens and roles


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    path = tmp_path_factory.mktemp("tokens") / "tokens.json"
    return path, {role.name.lower(): add_token(path, f"the-{role.name.lower()}", role) for role in Role}


@pytest.fixture(scope="module")
def guarded(
    settings: Settings, home: Path, tokens: tuple[Path, dict[str, str]], start_server: Callable[..., Any]
) -> Iterator[Any]:
    with start_server(settings, tokens=tokens[0]) as running:
        yield running


@pytest.mark.parametrize(
    "metadata", [[], [("authorization", "Basic abc")], [("authorization", "Bearer ")], bearer("rf_wrong")]
)
def test_without_a_known_token_nothing_is_answered(guarded: Any, metadata: list[tuple[str, str]]) -> None:
    code, details = status(guarded.stub.Retrieve, REQUEST, metadata=metadata)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "token" in details


METHODS = {
    "RetrievalService/Retrieve": Role.READ,
    "RetrievalService/SimilarItems": Role.READ,
    "CatalogService/GetItems": Role.READ,
    "CatalogService/ListItems": Role.READ,
    "CatalogService/UpsertItems": Role.WRITE,
    "CatalogService/DeleteItems": Role.WRITE,
    "FeedbackService/RecordEvents": Role.WRITE,
    "DeploymentService/GetDeployment": Role.ADMIN,
}


@pytest.mark.parametrize("path", METHODS)
def test_a_method_is_for_its_role_and_the_ones_above(
    guarded: Any, tokens: tuple[Path, dict[str, str]], path: str
) -> None:
    call, needed = guarded.channel.unary_unary(f"/retrievalformer.v1.{path}"), METHODS[path]
    for role in Role:
        name = role.name.lower()
        code, details = status(call, b"", metadata=bearer(tokens[1][name]))
        if role < needed:
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert details == (
                f"the token of 'the-{name}' has the role {name}, and this method needs {needed.name.lower()}"
            )
        else:  # an empty message may be refused, the caller is not
            assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT)


def test_roles_of_all_methods_are_checked_here(guarded: Any) -> None:
    served = {(each.name, method.name) for each in guarded.parts.services for method in each.descriptor.methods}
    assert {f"{service.rpartition('.')[2]}/{method}" for service, method in served} == set(METHODS)


def test_the_caller_is_logged_and_the_token_is_not(
    guarded: Any, tokens: tuple[Path, dict[str, str]], logs: LogCapture
) -> None:
    assert status(guarded.stub.Retrieve, REQUEST, metadata=bearer(tokens[1]["read"]))[0] is grpc.StatusCode.OK
    assert any(entry.get("caller") == "the-read" for entry in logs.entries)
    assert not any(tokens[1]["read"] in json.dumps(entry, default=str) for entry in logs.entries)


def test_health_is_open_and_reflection_is_for_readers(guarded: Any, tokens: tuple[Path, dict[str, str]]) -> None:
    health = health_pb2_grpc.HealthStub(guarded.channel)
    assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(guarded.channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    with pytest.raises(grpc.RpcError) as raised:
        list(reflection.ServerReflectionInfo(iter([asked])))
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    (listed,) = reflection.ServerReflectionInfo(iter([asked]), metadata=bearer(tokens[1]["read"]))
    assert listed.list_services_response.service


def test_tokens_come_and_go_while_the_server_runs(
    guarded: Any, tokens: tuple[Path, dict[str, str]], wait_until: Callable[..., None], logs: LogCapture
) -> None:
    late = bearer(add_token(tokens[0], "late", Role.READ))
    wait_until(lambda: status(guarded.stub.Retrieve, REQUEST, metadata=late)[0] is grpc.StatusCode.OK)
    remove_token(tokens[0], "late")
    wait_until(lambda: status(guarded.stub.Retrieve, REQUEST, metadata=late)[0] is grpc.StatusCode.UNAUTHENTICATED)
    kept = tokens[0].read_text()
    tokens[0].write_text("{")  # a file that cannot be read locks nobody out, nor lets anybody in
    wait_until(
        lambda: (
            status(guarded.stub.Retrieve, REQUEST, metadata=late)[0]
            and any(entry["event"] == "tokens not read again" for entry in logs.entries)
        )
    )
    assert status(guarded.stub.Retrieve, REQUEST, metadata=bearer(tokens[1]["read"]))[0] is grpc.StatusCode.OK
    tokens[0].write_text(kept)


def test_every_method_of_every_service_needs_a_token(guarded: Any) -> None:
    for path in METHODS:
        call = guarded.channel.unary_unary(f"/retrievalformer.v1.{path}")
        assert status(call, b"")[0] is grpc.StatusCode.UNAUTHENTICATED


# Overload


@pytest.mark.parametrize(
    ("pending", "tries"), [(128, ((120, 0, 0), (500, 300, 450))), (16, ((12, 0, 0), (120, 60, 110)))]
)
def test_of_calls_that_come_all_at_once_grpc_holds_some_and_our_front_refuses_the_rest(
    settings: Settings,
    home: Path,
    start_server: Callable[..., Any],
    server_front: str,
    pending: int,
    tries: Sequence[tuple[int, int, int]],
) -> None:
    async def busy() -> None:
        time.sleep(1.0)

    with start_server(settings, max_in_flight=16, max_pending=pending) as running:
        assert status(running.stub.Retrieve, REQUEST)[0] is grpc.StatusCode.OK
        for number, least, most in tries:
            stuck = running.in_loop(busy())
            calls = [running.stub.Retrieve.future(REQUEST, timeout=30) for _ in range(number)]
            stuck.result(10)
            codes = [call.code() for call in calls if call.exception() or True]
            # The others are held, and then refused or answered.
            cancelled = codes.count(grpc.StatusCode.CANCELLED)
            assert least <= cancelled <= most if server_front == "grpc" else not cancelled
            assert codes.count(grpc.StatusCode.OK) >= 1
            assert set(codes) <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert status(running.stub.Retrieve, REQUEST)[0] is grpc.StatusCode.OK


# TLS


def certificate(directory: Path, name: str, issuer: str | None = None) -> tuple[Path, Path]:
    """Make a certificate for this machine, signed by itself or by another one."""
    directory.mkdir(exist_ok=True)
    key, cert = directory / f"{name}.key", directory / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    if issuer is not None:
        command += ["-CA", str(directory / f"{issuer}.pem"), "-CAkey", str(directory / f"{issuer}.key")]
        command += ["-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")


@needs_openssl
def test_tls_and_rotated_certificates(
    settings: Settings, home: Path, start_server: Callable[..., Any], tmp_path: Path, logs: LogCapture
) -> None:
    cert, key = certificate(tmp_path, "first")
    with start_server(settings, tls=TlsFiles(certificate=cert, key=key)) as running:
        trusted = cert.read_bytes()

        def ask(root: bytes) -> grpc.StatusCode:
            credentials = grpc.ssl_channel_credentials(root)
            with grpc.secure_channel(running.server.address, credentials) as channel:
                return status(RetrievalServiceStub(channel).Retrieve, REQUEST)[0]  # type: ignore[no-untyped-call]

        assert ask(trusted) is grpc.StatusCode.OK
        assert status(running.stub.Retrieve, REQUEST)[0] is grpc.StatusCode.UNAVAILABLE  # plain text
        second, second_key = certificate(tmp_path / "second", "second")
        cert.write_bytes(second.read_bytes())
        assert ask(trusted) is grpc.StatusCode.OK  # half of the new pair is no pair: the old one goes on
        assert any(entry["event"] == "certificates not read again" for entry in logs.entries)
        key.write_bytes(second_key.read_bytes())
        assert ask(second.read_bytes()) is grpc.StatusCode.OK
        assert ask(trusted) is grpc.StatusCode.UNAVAILABLE


@needs_openssl
def test_an_expired_certificate_does_not_take_the_place_of_a_valid_one(tmp_path: Path, logs: LogCapture) -> None:
    """The clock runs: both certificates of two days are valid now, the second alone two days and an hour from the first."""
    import time as clock
    from datetime import UTC, datetime, timedelta

    from rf_serving.server.tls import ServerCertificates, validity_of

    cert, key = certificate(tmp_path, "first")
    clock.sleep(1.1)  # a second is the smallest difference there is
    second, second_key = certificate(tmp_path / "second", "second")
    first_ends, second_ends = (validity_of(file.read_text()).ends for file in (cert, second))
    assert timedelta(days=2) - timedelta(minutes=5) < first_ends - datetime.now(UTC) <= timedelta(days=2)
    assert first_ends < second_ends
    old, old_key = cert.read_bytes(), key.read_bytes()

    def said(event: str) -> int:
        return sum(entry["event"] == event for entry in logs.entries)

    now, shown = first_ends - timedelta(hours=1), [first_ends]
    certificates = ServerCertificates(TlsFiles(certificate=cert, key=key), shown.append, lambda: now)
    refused = said("certificates not read again")
    cert.write_bytes(second.read_bytes())
    key.write_bytes(second_key.read_bytes())
    assert certificates._now() is not None
    assert shown[-1] == second_ends
    now = first_ends + (second_ends - first_ends) / 2  # the first is over, the second is not
    cert.write_bytes(old)
    key.write_bytes(old_key)
    for _ in range(3):
        certificates._now()
    assert (shown[-1], said("certificates not read again")) == (second_ends, refused + 1)
    now = second_ends + timedelta(hours=1)  # nothing is valid any more: then what is asked for
    invalid = said("certificate is not valid")
    certificates._now()
    assert (shown[-1], said("certificate is not valid")) == (first_ends, invalid + 1)


@needs_openssl
def test_mtls_lets_in_who_can_show_a_certificate(
    settings: Settings, home: Path, start_server: Callable[..., Any], tmp_path: Path
) -> None:
    cert, key = certificate(tmp_path, "server")
    ca, _ = certificate(tmp_path, "ca")
    known, known_key = certificate(tmp_path, "known", issuer="ca")
    stranger, stranger_key = certificate(tmp_path, "stranger")
    with start_server(settings, tls=TlsFiles(certificate=cert, key=key, client_ca=ca)) as running:
        address = running.server.address

        def answered(own: tuple[Path, Path] | None) -> bool:
            tls_cert, tls_key = own or (None, None)
            with RetrievalClient(address, tls_ca=cert, tls_cert=tls_cert, tls_key=tls_key) as client:
                try:
                    return len(client.retrieve(REQUEST).items) == 3
                except Exception:
                    return False

        assert answered((known, known_key))
        assert not answered(None)
        assert not answered((stranger, stranger_key))


@needs_openssl
def test_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    from rf_serving.server.tls import ServerCertificates

    cert, key = certificate(tmp_path, "one")
    _, other = certificate(tmp_path, "two")
    with pytest.raises(ConfigError, match="the key has to belong to the certificate"):
        ServerCertificates(TlsFiles(certificate=cert, key=other))
    with pytest.raises(ConfigError, match=r"missing\.pem cannot be read"):
        ServerCertificates(TlsFiles(certificate=tmp_path / "missing.pem", key=key))


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_others_are_not_let_in_by_accident(host: str, tmp_path: Path) -> None:
    files = TlsFiles(certificate=tmp_path / "c", key=tmp_path / "k")
    with pytest.raises(ConfigError, match=r"no TLS .* and no tokens .* --insecure"):
        ServeOptions(host=host).check()
    with pytest.raises(ConfigError, match="there is no tokens"):
        ServeOptions(host=host, tls=files).check()
    with pytest.raises(ConfigError, match="there is no TLS"):
        ServeOptions(host=host, tokens=tmp_path / "t").check()
    ServeOptions(host=host, tls=files, tokens=tmp_path / "t").check()
    ServeOptions(host=host, insecure=True).check()
    ServeOptions(host="localhost").check()
    assert is_loopback("127.0.0.9")
    with pytest.raises(UsageError, match="has no address"):
        is_loopback("no such host.")


# Limits and deadlines


def test_limits_are_named(server: Any) -> None:
    catalog = CatalogServiceStub(server.channel)  # type: ignore[no-untyped-call]
    many = UpsertItemsRequest(items=[Item(item_id=str(n)) for n in range(1001)])
    code, details = status(catalog.UpsertItems, many)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details == "items: 1001 are given, and a request may have 1000 (--max-batch); split it"


def test_messages_and_sessions_have_a_largest_size(
    settings: Settings, home: Path, start_server: Callable[..., Any]
) -> None:
    with start_server(settings, limits=Limits(max_session=5, max_message_bytes=10_000)) as running:
        long = Session(history=[Interaction(item_id="1")] * 6)
        code, details = status(running.stub.Retrieve, RetrieveRequest(session=long, k=1))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "6 interactions are given, and a session may have 5 (--max-session)" in details
        code, details = status(running.stub.Retrieve, RetrieveRequest(user_id="x" * 20_000, k=1))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in details
        assert "10000" in details
        assert status(running.stub.Retrieve, REQUEST)[0] is grpc.StatusCode.OK


def test_malformed_messages_are_the_callers_mistake(server: Any) -> None:
    for service in server.parts.services:
        for method in service.descriptor.methods:
            call = server.channel.unary_unary(f"/{service.name}/{method.name}")
            code, details = status(call, b"\xff\xff\xff")
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert f"no message that {method.name} takes" in details
    call = server.channel.unary_unary("/retrievalformer.v1.RetrievalService/Other")
    assert status(call, b"")[0] is grpc.StatusCode.UNIMPLEMENTED


class Slow:
    """Makes the retriever wait, without holding up anything else."""

    def __init__(self, running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.dropped = 0, 0
        self.free = asyncio.Event()
        retrieve = running.retriever.retrieve

        async def slowly(query: Any) -> Any:
            self.begun += 1
            try:
                await self.free.wait()
            except asyncio.CancelledError:
                self.dropped += 1
                raise
            return await retrieve(query)

        monkeypatch.setattr(running.retriever, "retrieve", slowly)
        monkeypatch.setattr(running.retriever, "take", lambda *_: None)  # nothing is quick

    def release(self, running: Any) -> None:
        running.loop.call_soon_threadsafe(self.free.set)


def test_work_is_dropped_when_its_time_is_up(
    settings: Settings,
    home: Path,
    start_server: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
) -> None:
    with start_server(settings, deadline_seconds=0.5) as running:
        slow = Slow(running, monkeypatch)
        code, details = status(running.stub.Retrieve, REQUEST)
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert details == "not answered within 0.5 s, the most that a call may take here"
        assert slow.dropped == 1
        with pytest.raises(grpc.RpcError) as raised:
            running.stub.Retrieve(REQUEST, timeout=0.1)  # the caller's own deadline is earlier
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        wait_until(lambda: slow.dropped == slow.begun == 2)
        value = running.metrics.registry.get_sample_value
        labels = {"method": "Retrieve", "status": "DEADLINE_EXCEEDED"}
        wait_until(lambda: value("rf_requests_total", labels) == 2)


def test_an_answer_that_is_ready_too_late_counts_as_no_success(
    settings: Settings,
    home: Path,
    start_server: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
) -> None:
    rank = Engine.rank_quick

    def slowly(self: Engine, *given: Any) -> Any:
        time.sleep(0.3)
        return rank(self, *given)

    with start_server(settings) as running:
        monkeypatch.setattr(Engine, "rank_quick", slowly)
        with pytest.raises(grpc.RpcError) as raised:
            running.stub.Retrieve(REQUEST, timeout=0.15)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        value = running.metrics.registry.get_sample_value
        wait_until(lambda: value("rf_requests_total", {"method": "Retrieve", "status": "DEADLINE_EXCEEDED"}) == 1)
        assert value("rf_requests_total", {"method": "Retrieve", "status": "OK"}) is None


def test_what_is_too_much_is_refused_at_once(
    settings: Settings,
    home: Path,
    start_server: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
    logs: LogCapture,
) -> None:
    logs.entries.clear()  # of other tests
    inflated: list[bytes] = []

    def unpack(packed: Packed, encoding: str, most: int) -> bytes:
        inflated.append(packed.body)
        return unpacked(packed, encoding, most)

    monkeypatch.setattr(receiver, "unpacked", unpack)
    with start_server(settings, max_in_flight=4) as running:
        slow, full = Slow(running, monkeypatch), threading.Event()

        def late() -> Iterator[bytes]:
            full.wait(20)
            yield REQUEST.SerializeToString()

        let_through = running.channel.stream_unary("/retrievalformer.v1.RetrievalService/Retrieve").future(late())
        taken = [running.stub.Retrieve.future(REQUEST) for _ in range(4)]
        wait_until(lambda: slow.begun == 4)
        full.set()
        assert let_through.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for _ in range(19):
            with pytest.raises(grpc.RpcError) as raised:
                running.stub.Retrieve(REQUEST, compression=grpc.Compression.Gzip)
            error: Any = raised.value
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error.details() == (
                "the server answers 4 calls at once and has as many; try again later, or another one"
            )
            trailers = dict(error.trailing_metadata())
            assert 50 <= int(trailers["grpc-retry-pushback-ms"]) <= 150
            assert trailers["x-request-id"]
        assert slow.begun == 4
        assert not inflated  # what is refused costs nothing
        # health is answered whatever there is to do
        assert health_pb2_grpc.HealthStub(running.channel).Check(health_pb2.HealthCheckRequest()).status == 1
        value = running.metrics.registry.get_sample_value
        assert value("rf_shed_requests_total", {"method": "Retrieve"}) == 20
        assert value("rf_requests_total", {"method": "Retrieve", "status": "RESOURCE_EXHAUSTED"}) == 20
        assert sum(entry["event"] == "shedding" for entry in logs.entries) <= 3
        assert not [entry for entry in logs.entries if entry.get("status") == "RESOURCE_EXHAUSTED"]
        slow.release(running)
        assert all(len(call.result(timeout=30).items) == 3 for call in taken)
        assert len(running.stub.Retrieve(REQUEST).items) == 3


def test_calls_that_never_send_their_message_take_no_place(
    settings: Settings, home: Path, start_server: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    """A caller that opens calls and goes away must not use up the limit."""
    with start_server(settings, max_in_flight=2) as running:
        release = threading.Event()

        def nothing() -> Iterator[bytes]:
            release.wait(20)
            yield from ()

        opened = [
            running.channel.stream_unary("/retrievalformer.v1.RetrievalService/Retrieve").future(nothing())
            for _ in range(5)
        ]
        time.sleep(0.3)
        assert status(running.stub.Retrieve, REQUEST)[0] is grpc.StatusCode.OK
        for call in opened:
            call.cancel()
        release.set()
        assert status(running.stub.Retrieve, REQUEST)[0] is grpc.StatusCode.OK
        wait_until(lambda: running.admission.active == 0)
