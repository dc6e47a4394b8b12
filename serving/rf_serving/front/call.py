"""One call: a stream of HTTP/2, from its head to its trailers."""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum
from time import monotonic
from typing import NoReturn, Protocol

import grpc

from rf_serving.front.frames import DEFAULT_WINDOW
from rf_serving.front.header_encoder import Metadata
from rf_serving.front.messages import Lack, MessageFaultError, Packed
from rf_serving.front.request_head import RequestHead


class Kind(Enum):
    """Kind of a method."""

    UNARY = "one message, one reply"
    RELAYED = "streams, or a service that another server answers"


class Replies(Protocol):
    """Sending side of a connection, as its calls use it."""

    def reply(self, call: "Call", message: bytes) -> None:
        """Send all of a unary reply."""

    def begin(self, call: "Call", metadata: Metadata) -> None:
        """Send the head of a reply."""

    def finish(self, call: "Call", status: int, details: str) -> None:
        """Send the end of a reply."""

    async def send(self, call: "Call", message: bytes) -> None:
        """Send a message of a stream."""


class Requests(Protocol):
    """Receiving side of a connection, as its calls use it."""

    async def receive(self, call: "Call") -> bytes | None:
        """Return the next message of a streamed call; None: there are no more."""

    def unpacked(self, call: "Call", packed: Packed) -> bytes | None:
        """Return a message, inflated; None: its connection is closed."""


class Link(Protocol):
    """Connection that a call came by; one object for all its calls."""

    def __hash__(self) -> int:
        """Tell connections apart."""

    @property
    def sender(self) -> Replies:
        """Sending side."""

    @property
    def receiver(self) -> Requests:
        """Receiving side."""


class AbortError(Exception):
    """A handler has ended its call with a status."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code, self.details = code, details


class Call:
    """A call, and what handlers ask of gRPC's context: metadata, time, trailing metadata, abort."""

    __slots__ = (
        "answered", "arrived", "asking", "began", "body_bytes", "buffer", "cancelled", "closed", "connection",
        "deadline", "ended", "granted", "head", "head_sent", "inbox", "kind", "message", "more", "number", "outgoing",
        "progress", "receive_window", "refund", "send_window", "sent", "stored", "trailer", "trailing",
    )  # fmt: skip

    def __init__(self, connection: Link, number: int, head: RequestHead, kind: Kind, send_window: int) -> None:
        self.connection, self.number, self.head, self.kind = connection, number, head, kind
        self.began = monotonic()
        self.deadline = None if head.timeout is None else self.began + head.timeout
        self.message: bytes | Packed | Lack | MessageFaultError | None = None
        """Of a unary call; set before it is given to the application."""
        self.cancelled: Callable[[], object] | None = None
        """Called once if the caller leaves, or its deadline passes, before the call is answered."""
        self.trailing: Metadata = ()
        self.closed = False
        """Nothing more is sent."""
        self.answered = False
        self.arrived = False
        """The application has it."""
        # What comes, for the connection's receiver.
        self.ended = False
        self.buffer, self.stored = bytearray(), 0
        self.receive_window, self.granted, self.asking, self.refund, self.body_bytes = DEFAULT_WINDOW, 0, False, 0, 0
        self.inbox: deque[Packed | MessageFaultError] | None = None
        self.more: asyncio.Event | None = None
        # What goes, for its sender.
        self.send_window = send_window
        self.head_sent = False
        self.outgoing: deque[memoryview] | None = None
        self.trailer: bytes | None = None
        self.progress = 0.0
        self.sent: asyncio.Event | None = None

    def is_unary(self) -> bool:
        """Say whether it is a call of one message and one reply."""
        return self.kind is Kind.UNARY

    def gone(self) -> bool:
        """Say whether the caller has left."""
        return self.closed

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return the caller's metadata."""
        return self.head.metadata

    def time_remaining(self) -> float | None:
        """Return the seconds that are left of the caller's deadline; None: it has none."""
        return None if self.deadline is None else max(0.0, self.deadline - monotonic())

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Send metadata with the reply's trailers, in the place of what was set before."""
        self.trailing = metadata

    async def abort(self, code: grpc.StatusCode, details: str = "") -> NoReturn:
        """End the call with a status.

        Raises:
            AbortError: always; the application answers with it.
        """
        raise AbortError(code, details)

    def unpacked(self, packed: Packed) -> bytes | None:
        """Return the message of a unary call, inflated; None: it costs so much that the connection is closed.

        Raises:
            MessageFaultError: it cannot be used.
        """
        return self.connection.receiver.unpacked(self, packed)

    def reply(self, message: bytes) -> None:
        """Answer a unary call; nothing if the caller has left."""
        if not self.answered:
            self.answered = True
            self.connection.sender.reply(self, message)

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """End the call with a status; nothing if the caller has left."""
        self.finish(code.value[0], details)

    def finish(self, status: int, details: str) -> None:
        """End the call; streams have sent their messages before."""
        if not self.answered:
            self.answered = True
            self.connection.sender.finish(self, status, details)

    def begin(self, metadata: Metadata) -> None:
        """Send the head of a streamed reply, with initial metadata."""
        self.connection.sender.begin(self, metadata)

    async def send(self, message: bytes) -> None:
        """Send a message of a streamed reply, and wait until most of what was sent is on its way."""
        await self.connection.sender.send(self, message)

    async def receive(self) -> bytes | None:
        """Return the next message of a streamed request; None: there are no more."""
        return await self.connection.receiver.receive(self)
