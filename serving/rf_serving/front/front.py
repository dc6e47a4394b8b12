"""The listening end: sockets, connections, and the order in which their calls are answered."""

import asyncio
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic
from typing import Any

from rf_serving.front.application import Application
from rf_serving.front.call import Call, Link
from rf_serving.front.callers import Callers
from rf_serving.front.connection import DRAINING, Connection
from rf_serving.front.faults import ErrorCode
from rf_serving.front.limits import FrontLimits
from rf_serving.front.listener import Listener

_HANDSHAKE_SECONDS = 1.0
"""Most time that a drain waits for connections which are just being made."""


class Front:
    """Listens, and hands calls to an application. Used from one event loop.

    Args:
        limits: of every connection, and of all together.
        context: TLS with ALPN; None: plain text.
        refused: called for every connection that is closed because there are too many.
    """

    application: Application

    def __init__(
        self,
        limits: FrontLimits,
        context: ssl.SSLContext | None = None,
        refused: Callable[[], object] = lambda: None,
    ) -> None:
        self.limits = limits
        self.tls = context is not None
        self.retired = False
        """No further connections are taken."""
        self.callers = Callers(limits, refused)
        self.connections: set[Connection] = set()
        """Those that are made: their handshake has ended."""
        self._listener = Listener(self.callers, lambda address: Connection(self, address), limits, context)
        self._ready: list[Call] = []
        self._ticking: asyncio.TimerHandle | None = None
        self._relieving = False
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
        return self._listener.bind(host, port, shared=shared)

    def start(self, application: Application) -> None:
        """Begin to take connections."""
        self.application = application
        self._listener.start()
        self._tick()

    def ready(self, call: Call) -> None:
        """Answer a call at the end of this turn of the loop, with all others that have come by then."""
        self._ready.append(call)
        if len(self._ready) == 1:
            self._call_soon(self._turn)

    def quiet(self) -> None:
        """Note that a connection has no calls left, or is gone."""
        self._quiet.set()

    def too_heavy(self) -> None:
        """Note that more bytes are held than may be."""
        if not self._relieving:
            self._relieving = True
            self._call_soon(self._relieve)

    def retire(self) -> None:
        """Take no further connections, and ask clients to open no further calls on those there are."""
        self.retired = True
        self._listener.close()
        for connection in list(self.connections):
            connection.lifetime.retire(DRAINING)

    async def wait_until_answered(self, is_waited_for: Callable[[Call], bool]) -> None:
        """Return when no call is left that is waited for, and every client knows that it must open no further ones."""
        handshakes_until = monotonic() + _HANDSHAKE_SECONDS
        while (self._listener.opening and monotonic() < handshakes_until) or any(
            not connection.lifetime.final or any(map(is_waited_for, connection.calls.values()))
            for connection in self.connections
            if connection.closing_since is None
        ):
            self._quiet.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), self.limits.tick_seconds)

    async def close(self) -> None:
        """Close every connection, whatever is in flight."""
        self._listener.close()
        self._listener.abandon()
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

    def _relieve(self) -> None:
        self._relieving = False
        self.callers.relieve()

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
