"""Calls that are answered without a task, a future or a timer of their own: a method takes its message, and replies later."""

import asyncio
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import grpc

from rf_serving.server.call_context import Call


class QuickReply(NamedTuple):
    """Reply of a quick method."""

    message: bytes
    """Serialised."""
    notes: Mapping[str, Any]
    """For the log line."""
    seconds: Mapping[str, float]
    """By stage."""
    begins: Mapping[str, float]
    """Start of each stage, by :func:`time.perf_counter`."""


Done = Callable[[QuickReply | BaseException], None]


class QuickMethod(Protocol):
    """Answers the messages of a method that take a millisecond."""

    def __call__(self, message: bytes, done: Done, gone: Callable[[], bool], request_id: str) -> bool:
        """Take a message: ``done`` gets the reply, or an exception. False: it is not quick, or something is wrong with it.

        Args:
            message: of the call.
            done: is called once, in the event loop.
            gone: whether nobody waits for the reply any more.
            request_id: of the call.

        Raises:
            RfError, google.protobuf.message.DecodeError: something is wrong with it.
        """


class QuickContext(Protocol):
    """A call of either front."""

    def invocation_metadata(self) -> Any:
        """Return the caller's metadata."""

    def time_remaining(self) -> float | None:
        """Return the seconds that are left of the caller's deadline; None: it has none."""

    def set_trailing_metadata(self, metadata: Any) -> None:
        """Send metadata with the reply's trailers."""

    def gone(self) -> bool:
        """Whether the caller has left."""

    def reply(self, message: bytes) -> None:
        """Answer; nothing if the caller has left."""

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """End the call with a status; nothing if the caller has left."""


class Finish(Protocol):
    """Reports a quick call and ends it."""

    def __call__(self, quick: "QuickCall", result: QuickReply | BaseException) -> None:
        """Reply, or say what is wrong."""


class QuickCall:
    """A quick call, from its arrival to its reply."""

    __slots__ = ("begin", "call", "context", "ended", "finish", "method", "request_id", "span", "until")

    def __init__(
        self, method: Any, context: QuickContext, request_id: str, call: Call, finish: Finish, most_seconds: float
    ) -> None:
        self.method, self.context, self.request_id, self.call, self.finish = method, context, request_id, call, finish
        self.begin = perf_counter()
        self.until = self.begin + most_seconds
        """End of the server's own time for a call, by :func:`time.perf_counter`."""
        self.span: Any = None
        self.ended: Callable[[], None] | None = None
        """Called when the call has ended."""

    def gone(self) -> bool:
        """Whether nobody waits any more: the caller has left, or the time is up."""
        if self.context.gone() or perf_counter() >= self.until:
            return True
        left = self.context.time_remaining()
        return left is not None and left <= 0

    def done(self, result: QuickReply | BaseException) -> None:
        """End the call with its reply, or an exception."""
        self.finish(self, result)


class AioCall:
    """A call through gRPC's own server, which has a coroutine for each: it waits in :meth:`replied`."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._replied: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.invocation_metadata = context.invocation_metadata
        self.time_remaining = context.time_remaining
        self.set_trailing_metadata = context.set_trailing_metadata
        self.gone = self._replied.done
        self._failure: tuple[grpc.StatusCode, str] | None = None

    def reply(self, message: bytes) -> None:
        """Answer."""
        if not self._replied.done():
            self._replied.set_result(message)

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """End the call with a status."""
        if not self._replied.done():
            self._failure = code, details
            self._replied.set_result(b"")

    async def replied(self) -> bytes:
        """Return the reply, or abort the call."""
        message = await self._replied
        if self._failure is not None:
            await self._context.abort(*self._failure)
        return message
