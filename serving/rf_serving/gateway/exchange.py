"""One request of HTTP and its reply, as the call that an application answers sees them."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple, NoReturn

from rf_serving.front.call import Call
from rf_serving.front.header_encoder import Metadata


class Outcome(NamedTuple):
    """End of a call."""

    status: int
    """Of gRPC; 0 is OK."""
    message: bytes = b""
    details: str = ""


class Exchange:
    """The way back to a caller. Those of one address are equal: they share the places of an application as one connection would.

    Args:
        address: of the caller.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._outcome: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()

    def __hash__(self) -> int:
        return hash(self._address)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exchange) and other._address == self._address

    @property
    def sender(self) -> "Exchange":
        """Sending side."""
        return self

    @property
    def receiver(self) -> NoReturn:
        """Receiving side, of calls with streams: there are none."""
        raise AssertionError("a call with one message asks for no more")

    async def outcome(self, call: Call, receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> Outcome | None:
        """Wait for the end of a call; None: the client has left, which the application is told."""

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self._leave(call)

        if self._outcome.done():
            return self._outcome.result()
        watching = asyncio.get_running_loop().create_task(watch())
        try:
            return await self._outcome
        except asyncio.CancelledError:
            self._leave(call)
            raise
        finally:
            watching.cancel()

    def reply(self, call: Call, message: bytes) -> None:
        """Take the reply of a call."""
        self._end(Outcome(0, message))

    def finish(self, call: Call, status: int, details: str) -> None:
        """Take the end of a call that failed."""
        self._end(Outcome(status, b"", details))

    def begin(self, call: Call, metadata: Metadata) -> None:
        """Take the head of a streamed reply: there are none."""
        raise AssertionError("a call with one reply has no head before it")

    async def send(self, call: Call, message: bytes) -> None:
        """Take a message of a streamed reply: there are none."""
        raise AssertionError("a call with one reply sends no more")

    def _leave(self, call: Call) -> None:
        call.closed = True
        if not self._outcome.done():
            self._outcome.set_result(None)
        if call.cancelled is not None:
            call.cancelled()

    def _end(self, outcome: Outcome) -> None:
        if not self._outcome.done():
            self._outcome.set_result(outcome)
