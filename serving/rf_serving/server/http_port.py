"""Port of a server for HTTP with JSON: the gateway, and the same handlers and checks as behind the port of gRPC."""

from collections.abc import Callable, Iterable
from functools import partial

from rf_serving.gateway.gateway import Gateway
from rf_serving.gateway.port import GatewayPort
from rf_serving.server.http2_port import front_limits
from rf_serving.server.interceptor import CallInterceptor
from rf_serving.server.metrics import ServerMetrics
from rf_serving.server.native_calls import NativeCalls
from rf_serving.server.options import ServeOptions, is_own_name
from rf_serving.server.rpc import Service
from rf_serving.server.tls import ServerCertificates


class HttpPort(GatewayPort):
    """The port of ``--http-port``. Make it inside the event loop.

    Args:
        options: of the server.
        certificates: of a TLS port; None: plain text.
        metrics: told about connections.
        connections: most at once.
    """

    def __init__(
        self,
        options: ServeOptions,
        certificates: ServerCertificates | None,
        metrics: ServerMetrics,
        connections: int,
    ) -> None:
        context = None if certificates is None else certificates.context("http/1.1")
        super().__init__(front_limits(options, connections), context, metrics.refused_connections.inc)
        self._options = options
        metrics.http_connections.set_function(lambda: self.callers.connections)

    def answer(self, interceptor: CallInterceptor, services: Iterable[Service], serving: Callable[[], bool]) -> None:
        """Begin to answer.

        Args:
            interceptor: has the services.
            services: those that are offered.
            serving: says whether the server is healthy.
        """
        services, options = list(services), self._options
        gateway = Gateway(
            [service.descriptor for service in services],
            NativeCalls(interceptor, services),
            message_bytes=options.limits.max_message_bytes,
            message_seconds=options.deadline_seconds,
            serving=serving,
            known_host=partial(is_own_name, own=options.host) if options.local_only else None,
        )
        self.start(gateway, options.http_origins)
