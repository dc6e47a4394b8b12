"""The server: its ports, services, health, reflection, drain."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from rf_platform.errors import UsageError
from rf_protos.v1 import retrieval_pb2
from rf_serving.retrieval.query import Query
from rf_serving.retrieval.retriever import Retriever
from rf_serving.server.admission import Admission
from rf_serving.server.authentication import Authentication
from rf_serving.server.http2_port import Http2Port
from rf_serving.server.http_port import HttpPort
from rf_serving.server.interceptor import CallInterceptor
from rf_serving.server.metrics import ServerMetrics
from rf_serving.server.open_files import room_for
from rf_serving.server.options import ServeOptions
from rf_serving.server.shared_port import explained, joined
from rf_serving.server.tls import ServerCertificates
from rf_serving.server.tracing import NO_TRACING, Tracing
from rf_serving.server.wiring import ServerComponents

SERVICE: str = retrieval_pb2.DESCRIPTOR.services_by_name["RetrievalService"].full_name

WRITES = 32
"""Calls that change something and are answered at once, at most."""
_STREAMS = 1024  # of one connection; a client keeps further calls to itself
_PENDING_SLACK = 8  # gRPC ends some calls from the limit on and all from here on
_LINGER_SECONDS = 0.5
_KEEPALIVE_WAIT_SECONDS = 20.0
_FIRST_FETCH_SECONDS = 30.0  # the first read opens connections and imports drivers


class RetrievalServer:
    """A server on one address, which answers after :meth:`start`. Make it inside the event loop.

    The address is bound at once, to fail early; a port that is shared is not, since the kernel would hand connections to a
    process that still loads.
    """

    def __init__(
        self,
        options: ServeOptions,
        metrics: ServerMetrics,
        admission: Admission,
        tracing: Tracing = NO_TRACING,
        *,
        shared_port: bool = False,
    ) -> None:
        """Prepare, and bind the address unless it is shared.

        Args:
            options: of the server; only what concerns the port and the calls.
            metrics: told about every call.
            admission: limits the calls that read.
            tracing: makes spans.
            shared_port: other processes of this server listen on the same port.

        Raises:
            UsageError: the address, if it is not shared, is taken or not ours.
            ConfigError: certificates or tokens cannot be used, or others could call without them.
        """
        options.check()
        self._options, self._metrics = options, metrics
        ports = 1 if options.http_port is None else 2
        connections = room_for(options.max_connections * ports) // ports
        authentication = Authentication(options.tokens) if options.tokens is not None else None
        self._interceptor = CallInterceptor(
            metrics,
            admission=admission,
            writes=Admission(min(WRITES, options.max_in_flight)),
            authentication=authentication,
            deadline_seconds=options.deadline_seconds,
            tracing=tracing,
        )
        self._server = grpc.aio.server(
            interceptors=[self._interceptor],
            options=[
                # Otherwise a second server on the same port would silently take half of the calls.
                ("grpc.so_reuseport", int(shared_port)),
                ("grpc.max_receive_message_length", options.limits.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", _STREAMS),
                ("grpc.max_allowed_incoming_connections", connections),
                *_connection_options(options),
                # A loop that cannot keep up even with refusing would otherwise answer only calls that are too old.
                ("grpc.server.max_pending_requests", options.max_pending),
                ("grpc.server.max_pending_requests_hard_limit", options.max_pending + _PENDING_SLACK),
            ],
        )
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # not in the stubs
        self._certificates = None if options.tls is None else ServerCertificates(options.tls, metrics.certificate_ends)
        self._shared_port, self._draining = shared_port, False
        self.port, self.http_port = options.port, options.http_port
        self._http = None
        if options.http_port is not None:
            self._http = HttpPort(options, self._certificates, metrics, connections)
        self._http2 = Http2Port(options, self._certificates, metrics, connections) if options.front == "http2" else None
        if not shared_port:
            self._bind()

    async def start(self, parts: ServerComponents) -> None:
        """Try one query through all stages, then accept calls and report SERVING.

        Raises:
            RfError: the query fails: the server does not start.
            UsageError: an address that is shared is not ours.
        """
        await _try(parts.retriever)
        if self._shared_port:
            self._bind()
        names = [service.name for service in parts.services]
        self._interceptor.add(parts.services)
        if self._http2 is None:
            for service in parts.services:
                service.add(service.servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        add_reflection((*names, health.SERVICE_NAME), self._server)
        for name in names:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        if self._http2 is not None:
            self._server.add_insecure_port(self._http2.inner)
        await self._server.start()
        if self._http2 is not None:
            await self._http2.start(self._interceptor, parts.services, (health.SERVICE_NAME, *REFLECTION_SERVICES))
        if self._http is not None:
            self._http.answer(self._interceptor, parts.services, lambda: not self._draining)

    @property
    def address(self) -> str:
        """Address of the server, ``host:port``."""
        return joined(self._options.host, self.port)

    @property
    def active(self) -> int:
        """Number of calls in flight."""
        return self._interceptor.reports.active

    async def cut(self) -> None:
        """Cancel the calls in flight, while the server drains."""
        for port in self._own_ports():
            await port.close()
        await self._server.stop(None)

    def _bind(self) -> None:
        address = self.address
        if self._http is not None:
            assert self._options.http_port is not None
            with explained(self._options.host, self._options.http_port, "--http-port"):
                self.http_port = self._http.bind(self._options.host, self._options.http_port, shared=self._shared_port)
        try:
            if self._http2 is not None:
                self.port = self._http2.bind(self._options.host, self.port, shared=self._shared_port)
            elif self._certificates is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, self._certificates.credentials())
        except (RuntimeError, OSError) as error:
            raise UsageError(
                f"the address {address} cannot be bound: it is in use or not this machine's; choose another --host or --port"
            ) from error

    async def drain(self, seconds: float) -> bool:
        """Report NOT_SERVING, accept no more calls, finish those in flight; return whether all were finished in time."""
        self._draining = True
        await self._health.enter_graceful_shutdown()
        stopping = asyncio.create_task(self._server.stop(seconds + _LINGER_SECONDS))
        for port in self._own_ports():
            port.retire()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle(), seconds)
        finished = not self._interceptor.reports.active
        # Left are replies on their way out, and health watches and reflection streams, which end when the caller pleases.
        await self._server.stop(_LINGER_SECONDS if finished else None)
        await stopping
        for port in self._own_ports():
            await port.close()
        return finished

    async def _idle(self) -> None:
        """Return when no call is being answered."""
        await self._interceptor.reports.wait_until_idle()
        for port in self._own_ports():
            await port.wait_until_answered()

    def _own_ports(self) -> list[Http2Port | HttpPort]:
        """Return the ports that gRPC's server does not look after."""
        return [port for port in (self._http2, self._http) if port is not None]


def _connection_options(options: ServeOptions) -> list[tuple[str, int]]:
    """Return how long connections live, in gRPC's words; what is not set is for ever."""
    seconds = {
        # A connection that says nothing, not even HTTP/2's first words.
        "grpc.server_handshake_timeout_ms": options.deadline_seconds,
        "grpc.keepalive_time_ms": options.keepalive_seconds,
        "grpc.keepalive_timeout_ms": min(_KEEPALIVE_WAIT_SECONDS, options.keepalive_seconds),
        # Clients that ping more often are taken for broken ones, and sent away.
        "grpc.http2.min_ping_interval_without_data_ms": options.min_ping_seconds,
        "grpc.max_connection_idle_ms": options.connection_idle_seconds,
        "grpc.max_connection_age_ms": options.connection_age_seconds,
        "grpc.max_connection_age_grace_ms": options.drain_seconds,
    }
    set_ = [(name, max(1, round(value * 1000))) for name, value in seconds.items() if value is not None]
    return [*set_, ("grpc.keepalive_permit_without_calls", 1)]


async def _try(retriever: Retriever) -> None:
    """Open the connections and start the threads that the first request would have to wait for otherwise."""
    nobody = "-" if retriever.bundle.spec.user.id_type == "string" else -1
    await retriever.retrieve(Query(subject=nobody, k=1, exclude_seen=True), _FIRST_FETCH_SECONDS, degrade=False)


_ALPHA, _STABLE = "grpc.reflection.v1alpha", "grpc.reflection.v1"
REFLECTION_SERVICES = (f"{_STABLE}.ServerReflection", reflection.SERVICE_NAME)
"""Full names of the two services."""


def add_reflection(names: Iterable[str], server: Any) -> None:
    """Add server reflection: clients can list services and messages, also those of reflection itself.

    Args:
        names: full names of the other services.
        server: an asynchronous gRPC server.
    """
    _describe_stable()
    servicer = reflection.aio.ReflectionServicer((*names, *REFLECTION_SERVICES))  # type: ignore[attr-defined]  # not in the stubs
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for service in REFLECTION_SERVICES:
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": handler}),)
        )


def _describe_stable() -> None:
    """Put the stable service's descriptor where clients that ask for it find it; grpcio-reflection has the other one only."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileContainingSymbol(REFLECTION_SERVICES[0])
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(file)
        stable = text_format.MessageToString(file).replace(_ALPHA, _STABLE)
        file = text_format.Parse(stable, descriptor_pb2.FileDescriptorProto())
        file.name = "grpc/reflection/v1/reflection.proto"
        pool.Add(file)
