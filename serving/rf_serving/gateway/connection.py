"""One connection of HTTP/1.1: uvicorn's protocol, within the limits of a front."""

import asyncio
from time import monotonic
from typing import Any, Protocol

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from rf_serving.front.callers import Callers
from rf_serving.front.limits import FrontLimits
from rf_serving.gateway.replies import error_body

_LINGER_SECONDS = 0.5


class Owner(Protocol):
    """Port that a connection belongs to."""

    config: Config
    state: ServerState
    callers: Callers
    limits: FrontLimits
    retired: bool
    """No further calls are taken."""


class Connection(HttpToolsProtocol):
    """A connection, which has to say something in time, and to take what it is answered.

    Args:
        owner: of it.
        address: of the client, for the limits of connections.
    """

    def __init__(self, owner: Owner, address: str) -> None:
        super().__init__(owner.config, owner.state, {})
        self._owner, self.address, self.weight = owner, address, 0
        self.handshake: asyncio.Task[None] | None = None
        self._head_since: float | None = monotonic()
        self._head_bytes = 0
        self._unread: tuple[int, float] = (0, 0.0)
        self._spoken = self._refused = False

    def connection_made(self, transport: Any) -> None:
        """Note that it can be used."""
        super().connection_made(transport)
        self._head_since = monotonic()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the call that its caller has left."""
        super().connection_lost(exc)
        self._forget_body()
        self._owner.callers.leave(self)

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        if self.transport.is_closing() or self._refused:
            return
        if self._head_since is None and not self._busy:
            self._head_since = monotonic()
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Count the bytes of a head from here on."""
        super().on_message_begin()
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the path."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer."""
        self._count_head(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        if self.transport.is_closing() or self._refused:
            return
        self._head_since, self._spoken = None, True
        super().on_headers_complete()
        if self._owner.retired:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        if self.transport.is_closing() or self._refused:
            return
        self.weight += len(body)
        callers = self._owner.callers
        callers.bytes += len(body)
        super().on_body(body)
        if callers.too_heavy():
            self.loop.call_soon(callers.relieve)

    def on_message_complete(self) -> None:
        """Note that a request is complete."""
        if not self.transport.is_closing() and not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on to the next request."""
        self._forget_body()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, and close."""
        if not self._refused:
            self._refuse(b"400 Bad Request", "this is no request of HTTP/1.1")

    def check(self, now: float) -> None:
        """Close it if a request does not come in time, or a reply is not taken."""
        if self.transport is None or self.transport.is_closing():
            return
        seconds = self._owner.limits.message_seconds
        if self._head_since is not None and now > self._head_since + seconds:
            self.transport.close()
        left, since = self.transport.get_write_buffer_size(), self._unread[1]
        if not left or left != self._unread[0]:
            self._unread = left, now
        elif now > since + seconds:
            self.transport.abort()

    def retire(self) -> None:
        """Close it after the reply to what it has asked."""
        if self.transport is not None:
            self.shutdown()

    def close(self) -> None:
        """Close it whatever is in flight."""
        if self.transport is not None:
            self.transport.abort()

    def need(self) -> int:
        """Return how much would be lost with it."""
        return 0 if not self._spoken else 3 if self._busy else 1

    def give_way(self, reason: str) -> None:
        """Close at once."""
        if self.handshake is not None and self.transport is None:
            self.handshake.cancel()
        else:
            self.close()

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._owner.limits.header_list_bytes and not self._refused:
            self._refuse(b"431 Request Header Fields Too Large", "the request's head is too long")

    def _refuse(self, status: bytes, said: str) -> None:
        body = error_body("INVALID_ARGUMENT", said)
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)
        self._refused = True
        if self.transport.can_write_eof():
            # What the client still sends is dropped for a while: if it were answered by a reset, this would be lost.
            self.transport.write_eof()
            self.loop.call_later(_LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()

    def _forget_body(self) -> None:
        self._owner.callers.bytes -= self.weight
        self.weight = 0
