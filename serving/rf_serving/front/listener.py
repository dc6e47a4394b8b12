"""Listening sockets of a front, and the connections that are accepted from them."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from rf_serving.front.callers import Callers, Guest, address_of
from rf_serving.front.limits import FrontLimits

_BACKLOG = 1024
_ACCEPTED_A_TURN = 16
_PAUSE_SECONDS = 0.2
_SHUTDOWN_SECONDS = 1.0
_RESET_AT_CLOSE = b"\x01\0\0\0\0\0\0\0"  # no time in TIME_WAIT for what was refused


class New(Guest, Protocol):
    """Connection that is made of an accepted socket."""

    handshake: "asyncio.Task[None] | None"
    """Ends when the connection is made, TLS included."""


class Listener:
    """Accepts connections, a few in each turn of the loop, so that calls go on beside a flood of them.

    Args:
        callers: say which may stay.
        make: makes a connection, given the address it comes from.
        limits: of a handshake.
        context: TLS; None: plain text.
    """

    def __init__(
        self, callers: Callers, make: Callable[[str], New], limits: FrontLimits, context: ssl.SSLContext | None
    ) -> None:
        self._callers, self._make = callers, make
        self._tls: dict[str, Any] = {}
        if context is not None:
            seconds = limits.message_seconds
            self._tls = {"ssl": context, "ssl_handshake_timeout": seconds, "ssl_shutdown_timeout": _SHUTDOWN_SECONDS}
        self._sockets: list[socket.socket] = []
        self._listening: set[socket.socket] = set()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def bind(self, host: str, port: int, *, shared: bool) -> int:
        """Listen on every address of a host, and return the port; connections wait until :meth:`start`.

        Raises:
            OSError: an address is taken or not ours.
        """
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)  # asyncio sends at once on TCP, if told that it is
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
                self.close()
                raise
            port = int(listening.getsockname()[1])
        return port

    @property
    def opening(self) -> int:
        """Number of connections that are not made yet: their handshakes go on."""
        return len(self._handshakes)

    def start(self) -> None:
        """Begin to accept."""
        for listening in self._sockets:
            self._listening.add(listening)
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def close(self) -> None:
        """Accept those connections that the kernel has completed, which it would reset, and no more."""
        for listening in self._listening:
            self._loop.remove_reader(listening.fileno())
            for _ in range(_BACKLOG):
                if not self._accepted(listening):
                    break
        self._listening.clear()
        for listening in self._sockets:
            listening.close()
        self._sockets.clear()

    def abandon(self) -> None:
        """Close the connections that are not made yet."""
        for handshake in list(self._handshakes):
            handshake.cancel()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTED_A_TURN):
            if not self._accepted(listening):
                return

    def _accepted(self, listening: socket.socket) -> bool:
        """Accept a connection; False: there is none, or no descriptor for it."""
        try:
            made, peer = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError:  # out of descriptors or memory: others have to give some back first
            self._loop.remove_reader(listening.fileno())
            self._loop.call_later(_PAUSE_SECONDS, self._again, listening)
            return False
        connection = self._make(address_of(peer))
        if not self._callers.enter(connection):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            made.close()
            return True
        made.setblocking(False)
        connection.handshake = task = self._loop.create_task(self._open(connection, made))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)
        return True

    def _again(self, listening: socket.socket) -> None:
        if listening in self._listening:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    async def _open(self, connection: Any, made: socket.socket) -> None:
        opened = False
        try:
            with suppress(OSError):  # the client has left, or speaks no TLS; errors of TLS are such, too
                await self._loop.connect_accepted_socket(lambda: connection, made, **self._tls)
                opened = True
        finally:
            connection.handshake = None
            if not opened:
                self._callers.leave(connection)
