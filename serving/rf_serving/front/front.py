"""The listening end: sockets, connections, and the order in which their calls are answered."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic
from typing import Any

from rf_serving.front.application import Application
from rf_serving.front.call import Call, Link
from rf_serving.front.connection import DRAINING, Connection
from rf_serving.front.faults import ErrorCode
from rf_serving.front.limits import FrontLimits

_BACKLOG = 1024
_SHUTDOWN_SECONDS = 1.0


class Front:
    """Listens, and hands calls to an application. Used from one event loop.

    Args:
        limits: of every connection.
        context: TLS with ALPN; None: plain text.
    """

    application: Application

    def __init__(self, limits: FrontLimits, context: ssl.SSLContext | None = None) -> None:
        self.limits, self._context = limits, context
        self.tls = context is not None
        self.retired = False
        """No further connections are taken."""
        self.connections: set[Connection] = set()
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._ready: list[Call] = []
        self._ticking: asyncio.TimerHandle | None = None
        self._quiet = asyncio.Event()
        self._call_soon: Callable[..., Any] = asyncio.get_running_loop().call_soon

    def bind(self, host: str, port: int, *, shared: bool = False) -> int:
        """Listen on every address of a host, and return the port; connections wait until :meth:`start`.

        Args:
            host: name or address.
            port: 0 chooses a free one.
            shared: other processes listen on the same port (``SO_REUSEPORT``).

        Raises:
            OSError: an address is taken or not ours.
        """
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        for family, kind, _, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind)
            self._sockets.append(listening)
            try:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if shared:
                    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(len(found) > 1))
                listening.bind((address[0], port, *address[2:]))
                listening.listen(_BACKLOG)
                listening.setblocking(False)
            except OSError:
                self.close_sockets()
                raise
            port = int(listening.getsockname()[1])
        return port

    async def start(self, application: Application) -> None:
        """Begin to take connections."""
        self.application = application
        loop = asyncio.get_running_loop()
        handshake = None if self._context is None else self.limits.message_seconds
        for listening in self._sockets:
            self._servers.append(
                await loop.create_server(
                    lambda: Connection(self),
                    sock=listening,
                    ssl=self._context,
                    backlog=_BACKLOG,
                    ssl_handshake_timeout=handshake,
                    ssl_shutdown_timeout=None if handshake is None else _SHUTDOWN_SECONDS,
                )
            )
        self._tick()

    def ready(self, call: Call) -> None:
        """Answer a call at the end of this turn of the loop, with all others that have come by then."""
        self._ready.append(call)
        if len(self._ready) == 1:
            self._call_soon(self._turn)

    def quiet(self) -> None:
        """Note that a connection has no calls left, or is gone."""
        self._quiet.set()

    def close_sockets(self) -> None:
        """Take no further connections."""
        for server in self._servers:
            server.close()
        for listening in self._sockets:
            listening.close()

    def retire(self) -> None:
        """Take no further connections, and ask clients to open no further calls on those there are."""
        self.retired = True
        self.close_sockets()
        for connection in list(self.connections):
            connection.lifetime.retire(DRAINING)

    async def wait_until_answered(self, is_waited_for: Callable[[Call], bool]) -> None:
        """Return when no call is left that is waited for, and every client knows that it must open no further ones."""
        while any(
            not connection.lifetime.final or any(map(is_waited_for, connection.calls.values()))
            for connection in self.connections
            if connection.closing_since is None
        ):
            self._quiet.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), self.limits.tick_seconds)

    async def close(self) -> None:
        """Close every connection, whatever is in flight."""
        self.close_sockets()
        for connection in list(self.connections):
            connection.close(ErrorCode.NO_ERROR, "server is closing")
        until = monotonic() + 1.0
        while self.connections and monotonic() < until:
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.transport.abort()
        if self._ticking is not None:
            self._ticking.cancel()

    def _turn(self) -> None:
        calls, self._ready = self._ready, []
        for call in in_turn(calls):
            if not call.closed:
                call.arrived = True
                self.application.answer(call)

    def _tick(self) -> None:
        now = monotonic()
        for connection in list(self.connections):
            connection.lifetime.check(now)
        self._ticking = asyncio.get_running_loop().call_later(self.limits.tick_seconds, self._tick)


def in_turn(calls: list[Call]) -> Iterable[Call]:
    """Order calls: the first of every connection, then the second of every connection, and so on."""
    if len(calls) < 2:
        return calls
    seen: dict[Link, int] = {}
    places = []
    for call in calls:
        place = seen.get(call.connection, 0)
        seen[call.connection] = place + 1
        places.append(place)
    if len(seen) == 1:
        return calls
    return [call for _, call in sorted(zip(places, calls, strict=True), key=lambda each: each[0])]
