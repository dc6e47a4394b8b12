"""Port of a server with our HTTP/2 front; gRPC's server is behind it, on a Unix socket, for streaming calls."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import mkdtemp

from rf_serving.front.call import Call
from rf_serving.front.front import Front
from rf_serving.front.limits import FrontLimits
from rf_serving.front.relay import Relay
from rf_serving.server.interceptor import CallInterceptor
from rf_serving.server.metrics import ServerMetrics
from rf_serving.server.native_calls import NativeCalls
from rf_serving.server.options import ServeOptions
from rf_serving.server.rpc import Service
from rf_serving.server.tls import ServerCertificates

_KEEPALIVE_WAIT_SECONDS = 20.0


class Http2Port:
    """Our front, and the way to the server behind it. Make it inside the event loop.

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
        context = None if certificates is None else certificates.context("h2")
        self._front = Front(front_limits(options, connections), context, metrics.refused_connections.inc)
        metrics.connections.set_function(lambda: self._front.callers.connections)
        self._directory = Path(mkdtemp(prefix="rf-front-"))
        self.inner = f"unix:{self._directory / 'grpc'}"
        """Address for gRPC's server; only this user may connect."""
        self._relay: Relay | None = None

    def bind(self, host: str, port: int, *, shared: bool) -> int:
        """Listen, and return the port.

        Raises:
            OSError: an address is taken or not ours.
        """
        return self._front.bind(host, port, shared=shared)

    async def start(self, interceptor: CallInterceptor, services: Iterable[Service], relayed: Iterable[str]) -> None:
        """Begin to answer; gRPC's server has been started.

        Args:
            interceptor: has the services.
            services: those that are answered in this process.
            relayed: full names of those that gRPC's server answers.
        """
        self._relay = Relay(self.inner)
        self._front.start(NativeCalls(interceptor, services, relayed, self._relay))

    def retire(self) -> None:
        """Accept no more connections, and have clients open no more calls on those there are."""
        self._front.retire()

    async def wait_until_answered(self) -> None:
        """Return when every unary call has its answer and no more can come."""
        await self._front.wait_until_answered(Call.is_unary)

    async def close(self) -> None:
        """Close every connection."""
        await self._front.close()
        if self._relay is not None:
            await self._relay.close()
        shutil.rmtree(self._directory, ignore_errors=True)


def front_limits(options: ServeOptions, connections: int) -> FrontLimits:
    """Return the limits of connections of one port, and how many there may be."""
    return FrontLimits(
        connections=connections,
        message_bytes=options.limits.max_message_bytes,
        message_seconds=options.deadline_seconds,
        keepalive_seconds=options.keepalive_seconds,
        keepalive_wait_seconds=min(_KEEPALIVE_WAIT_SECONDS, options.keepalive_seconds),
        min_ping_seconds=options.min_ping_seconds,
        idle_seconds=options.connection_idle_seconds,
        age_seconds=options.connection_age_seconds,
        grace_seconds=options.drain_seconds,
    )
