"""Receiving side of a connection: messages of its calls, and the windows they come through."""

import asyncio
from collections import deque
from typing import Protocol

from rf_serving.front.call import Call, Kind
from rf_serving.front.faults import ConnectionFault, ErrorCode, StreamFault
from rf_serving.front.floods import Costs
from rf_serving.front.frames import DEFAULT_WINDOW, window_update
from rf_serving.front.limits import FrontLimits
from rf_serving.front.messages import PREFIX_BYTES, Lack, MessageFaultError, Packed, too_large, unpacked
from rf_serving.front.sender import Sender

_WINDOW = 16 * 1024 * 1024
"""Of the connection; what bounds memory are the windows of its calls."""
_REFUND_BYTES = 16 * 1024


class Owner(Protocol):
    """Connection that a receiver belongs to."""

    sender: Sender
    costs: Costs

    def ready(self, call: Call) -> None:
        """Take a unary call that has its message, or will have none."""

    def hold(self, size: int) -> None:
        """Count bytes that are held, or no longer."""

    def close(self, code: ErrorCode, reason: str) -> None:
        """Say why, and close."""


class Receiver:
    """Puts messages together.

    Every call may send 64 KiB. A longer message is let in as soon as its length is known, all of it, as long as such messages
    stay within :attr:`FrontLimits.large_bytes`; others wait their turn, so that each one can be finished.
    """

    def __init__(self, connection: Owner, limits: FrontLimits) -> None:
        self._connection, self._limits = connection, limits
        self._window, self._refund = _WINDOW, 0
        self._large = 0
        self._asking: deque[tuple[Call, int]] = deque()

    def open(self) -> None:
        """Widen the connection's window."""
        self._connection.sender.write(window_update(0, _WINDOW - DEFAULT_WINDOW))

    def count(self, size: int) -> None:
        """Count the bytes of a DATA frame.

        Raises:
            ConnectionFault: they are more than the window.
        """
        self._window -= size
        if self._window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window")
        self._refund += size
        if self._refund >= _WINDOW // 2:
            self._connection.sender.write(window_update(0, self._refund))
            self._window += self._refund
            self._refund = 0

    def take(self, call: Call, size: int, body: bytes, *, end: bool) -> None:
        """Take the data of a call.

        Args:
            call: the call that they belong to.
            size: bytes of the frame.
            body: without padding.
            end: nothing follows.

        Raises:
            StreamFault: they are more than its window, or other than its head says.
        """
        call.receive_window -= size
        if call.receive_window < 0:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "more data than the stream's window")
        call.body_bytes += len(body)
        if end:
            self._ended(call)
        if call.kind is Kind.UNARY:
            if call.message is None:
                self._unary(call, body)
        else:
            self._streamed(call, body)
        padding = size - len(body)
        if padding and not end and not call.closed:  # at once: a message that is let in has to fit beside it
            call.receive_window += padding
            self._connection.sender.write(window_update(call.number, padding))

    def ended(self, call: Call) -> None:
        """Take the end of a call's data that came without any.

        Raises:
            StreamFault: its head says that there are more.
        """
        self.take(call, 0, b"", end=True)

    def drop(self, call: Call) -> None:
        """Forget a call, and let in the large messages that can be now."""
        self._release(call, call.stored)
        if call.more is not None:
            call.more.set()
        self._end_grant(call)

    async def receive(self, call: Call) -> bytes | None:
        """Return the next message of a streamed call; None: there are no more.

        Raises:
            MessageFaultError: the next one cannot be used.
        """
        assert call.inbox is not None
        assert call.more is not None
        while not call.inbox:
            if call.ended or call.closed:
                return None
            call.more.clear()
            await call.more.wait()
        packed = call.inbox.popleft()
        if isinstance(packed, MessageFaultError):
            raise packed
        size = PREFIX_BYTES + len(packed.body)
        call.refund += size
        self._release(call, min(call.stored, size))
        self._give_back(call)
        return self.unpacked(call, packed)

    def unpacked(self, call: Call, packed: Packed) -> bytes | None:
        """Return a message, inflated if it is compressed; None: that costs too much, and the connection is closed.

        Raises:
            MessageFaultError: it cannot be used.
        """
        most = self._limits.message_bytes
        try:
            message: bytes | MessageFaultError = unpacked(packed, call.head.encoding, most)
        except MessageFaultError as fault:
            message = fault
        if packed.flag:
            try:  # one that cannot be used may have cost as much as the largest
                self._connection.costs.inflated(len(packed.body), len(message) if isinstance(message, bytes) else most)
            except ConnectionFault as fault:
                self._connection.close(fault.code, fault.reason)
                return None
        if isinstance(message, MessageFaultError):
            raise message
        return message

    def _ended(self, call: Call) -> None:
        call.ended = True
        expected = call.head.content_length
        if expected is not None and expected != call.body_bytes:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "another number of bytes than content-length says")

    def _unary(self, call: Call, body: bytes) -> None:
        buffer: bytes | bytearray = body
        if call.buffer or len(body) < PREFIX_BYTES or len(body) != PREFIX_BYTES + int.from_bytes(body[1:5], "big"):
            self._store(call, body)
            buffer = call.buffer
        try:
            found = self._next(call, buffer)
            if found is not None:
                call.message = found if found.flag else found.body
            elif call.ended:
                call.message = Lack.ENDED
        except MessageFaultError as fault:
            call.message = fault
        if call.message is not None:
            if call.stored:
                call.buffer = bytearray()
                self._release(call, call.stored)
            self._connection.ready(call)

    def _streamed(self, call: Call, body: bytes) -> None:
        assert call.inbox is not None
        assert call.more is not None
        self._store(call, body)
        try:
            while (found := self._next(call, call.buffer)) is not None:
                call.inbox.append(found)
                del call.buffer[: PREFIX_BYTES + len(found.body)]
        except MessageFaultError as fault:
            call.inbox.append(fault)
        call.more.set()

    def _store(self, call: Call, body: bytes) -> None:
        call.buffer += body
        call.stored += len(body)
        self._connection.hold(len(body))

    def _release(self, call: Call, size: int) -> None:
        if size:
            call.stored -= size
            self._connection.hold(-size)

    def _next(self, call: Call, buffer: bytes | bytearray) -> Packed | None:
        """Return the first message if it is there; let it in if it is large."""
        if len(buffer) < PREFIX_BYTES:
            return None
        length = int.from_bytes(buffer[1:5], "big")
        if length > self._limits.message_bytes:
            raise too_large(length, self._limits.message_bytes)
        whole = PREFIX_BYTES + length
        if len(buffer) >= whole:
            self._end_grant(call)
            return Packed(buffer[0], bytes(buffer[PREFIX_BYTES:whole]))
        need = whole - len(buffer) - call.receive_window
        if need > 0 and not call.granted and not call.asking:
            if whole <= DEFAULT_WINDOW:
                self._give_back(call)
            elif self._asking or not self._fits(need):
                call.asking = True
                self._asking.append((call, need))
            else:
                self._grant(call, need)
        return None

    def _fits(self, need: int) -> bool:
        return not self._large or self._large + need <= self._limits.large_bytes

    def _grant(self, call: Call, need: int) -> None:
        self._large += need
        call.granted, call.asking = need, False
        call.receive_window += need
        call.refund -= need
        self._connection.sender.write(window_update(call.number, need))

    def _end_grant(self, call: Call) -> None:
        """Note that a message is there, or forgotten, and let in the large ones that can be now."""
        self._large -= call.granted
        call.granted = 0
        while self._asking and (self._asking[0][0].closed or self._fits(self._asking[0][1])):
            asking, need = self._asking.popleft()
            if not asking.closed:
                self._grant(asking, need)

    def _give_back(self, call: Call) -> None:
        """Widen the window of a call by what was taken out, in large steps unless a message waits for it."""
        if call.refund >= (1 if call.buffer else _REFUND_BYTES) and not call.ended and not call.closed:
            call.receive_window += call.refund
            self._connection.sender.write(window_update(call.number, call.refund))
            call.refund = 0


def open_inbox(call: Call) -> None:
    """Prepare a call for messages that are received one by one."""
    call.inbox, call.more = deque(), asyncio.Event()
