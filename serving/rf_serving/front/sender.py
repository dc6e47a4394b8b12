"""Sending side of a connection: replies within the windows of the other end, in turn between its calls."""

import asyncio
from collections import deque
from time import monotonic
from typing import Protocol

from rf_serving.front.call import Call
from rf_serving.front.faults import ConnectionFault, ErrorCode, StreamFault
from rf_serving.front.floods import Costs, PingPolicy
from rf_serving.front.frames import DEFAULT_WINDOW, LARGEST_FRAME, LARGEST_WINDOW, header_frames, reset
from rf_serving.front.header_encoder import NO_TABLE, OK, RESPONSE, Metadata, metadata_block, trailer_block
from rf_serving.front.messages import PREFIX_BYTES, framed

_FLUSH_BYTES = 64 * 1024


class Owner(Protocol):
    """Connection that a sender belongs to."""

    calls: dict[int, Call]
    costs: Costs
    pings: PingPolicy

    def hold(self, size: int) -> None:
        """Count bytes that are held, or no longer."""

    def done(self, call: Call) -> None:
        """Forget a call that was answered."""


class Sender:
    """Writes frames; what the other end's windows, or its socket, do not take is held."""

    def __init__(self, connection: Owner, transport: asyncio.Transport, least_bytes_a_second: int) -> None:
        self._connection, self._transport = connection, transport
        self._least_bytes_a_second = least_bytes_a_second
        self._soon = asyncio.get_running_loop().call_soon
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._planned = False
        self._prefix = b""
        self.window = self.initial_window = DEFAULT_WINDOW
        self.held = 0
        """Bytes of replies that wait."""
        self.paused_since: float | None = None
        self._waiting: dict[int, Call] = {}
        self._stalled: dict[int, Call] = {}
        """Calls that have something to send and no window left of their own."""

    def write(self, data: bytes) -> None:
        """Write frames at the end of this turn of the loop."""
        self._out.append(data)
        self._out_bytes += len(data)
        if not self._planned:
            self._planned = True
            self._soon(self.flush)

    def flush(self) -> None:
        """Write them now."""
        self._planned = False
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            if not self._transport.is_closing():
                self._transport.write(data)

    def table_changed(self, size: int) -> None:
        """Note the largest table for our headers; we use none, and have to say so once."""
        if size < 4096:
            self._prefix = NO_TABLE

    def reply(self, call: Call, message: bytes) -> None:
        """Send all of a unary reply."""
        size = len(message) + PREFIX_BYTES
        trailer = OK + metadata_block(call.trailing) if call.trailing else OK
        if size > min(LARGEST_FRAME, self.window, call.send_window) or self.paused_since is not None or self._waiting:
            self.begin(call, ())
            call.trailer = trailer
            self._hold(call, message)
            return
        self.window -= size
        stream = call.number.to_bytes(4, "big")
        head = self._first() + RESPONSE
        self.write(
            b"%b\x01\x04%b%b%b\0\0%b\0%b%b%b\x01\x05%b%b"
            % (
                *(len(head).to_bytes(3, "big"), stream, head),
                *(size.to_bytes(3, "big"), stream, (size - PREFIX_BYTES).to_bytes(4, "big"), message),
                *(len(trailer).to_bytes(3, "big"), stream, trailer),
            )
        )
        self._done(call)

    def begin(self, call: Call, metadata: Metadata) -> None:
        """Send the head of a reply."""
        if not call.closed and not call.head_sent:
            call.head_sent = True
            self.write(header_frames(call.number, self._first() + RESPONSE + metadata_block(metadata), end=False))

    def finish(self, call: Call, status: int, details: str) -> None:
        """Send the end of a reply, after what is held of it."""
        if call.closed:
            return
        call.trailer = trailer_block(status, details, call.trailing)
        if not call.outgoing:
            self._end(call)

    def refuse(self, call: Call, block: bytes) -> None:
        """Send a whole answer that is no gRPC."""
        call.answered = True
        self.write(header_frames(call.number, self._first() + block, end=True))
        self._done(call)

    async def send(self, call: Call, message: bytes) -> None:
        """Send a message of a stream and wait until it is on its way, or the call has ended."""
        if call.closed:
            return
        self._hold(call, message)
        if call.outgoing and not call.closed:
            call.sent = call.sent or asyncio.Event()
            call.sent.clear()
            await call.sent.wait()

    def more_window(self, more: int) -> None:
        """Take a WINDOW_UPDATE of the connection.

        Raises:
            ConnectionFault: it is none, or too much.
        """
        if not more:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        self.window += more
        if self.window > LARGEST_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")
        self.pump()

    def more_call_window(self, call: Call, more: int) -> None:
        """Take a WINDOW_UPDATE of a call.

        Raises:
            StreamFault: it is none, or too much.
        """
        if not more:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        call.send_window += more
        if call.send_window > LARGEST_WINDOW:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "the stream's window is too large")
        self._unstall(call)
        self.pump()

    def new_initial_window(self, size: int) -> None:
        """Take another initial window, which changes that of every call.

        Raises:
            ConnectionFault: a window becomes too large.
        """
        more, self.initial_window = size - self.initial_window, size
        for call in self._connection.calls.values():
            call.send_window += more
            if call.send_window > LARGEST_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window is too large")
            self._unstall(call)
        self.pump()

    def pause(self) -> None:
        """Hold everything back: the socket takes no more."""
        self.paused_since = monotonic()

    def resume(self) -> None:
        """Go on."""
        self.paused_since = None
        self.pump()

    def pump(self) -> None:
        """Send what the windows allow, a frame of each call in turn."""
        waiting = self._waiting
        while waiting and self.window > 0 and self.paused_since is None:
            number = next(iter(waiting))
            call = waiting.pop(number)
            outgoing = call.outgoing
            assert outgoing
            part = outgoing[0]
            size = min(len(part), self.window, call.send_window, LARGEST_FRAME)
            if size <= 0:
                self._stalled[number] = call
                continue
            self.window -= size
            call.send_window -= size
            self.held -= size
            call.progress = min(monotonic(), call.progress + size / self._least_bytes_a_second)
            self._connection.hold(-size)
            self.write(b"%b\0\0%b%b" % (size.to_bytes(3, "big"), number.to_bytes(4, "big"), bytes(part[:size])))
            self._connection.costs.carried(size)
            if size < len(part):
                outgoing[0] = part[size:]
            else:
                outgoing.popleft()
            if outgoing:
                waiting[number] = call
            elif call.trailer is not None:
                self._end(call)
            elif call.sent is not None:
                call.sent.set()
            if self._out_bytes >= _FLUSH_BYTES:
                self.flush()

    def drop(self, call: Call) -> None:
        """Forget what is held of a call."""
        self._waiting.pop(call.number, None)
        self._stalled.pop(call.number, None)
        if call.outgoing:
            size = sum(map(len, call.outgoing))
            self.held -= size
            self._connection.hold(-size)
            call.outgoing.clear()
        if call.sent is not None:
            call.sent.set()

    def stuck(self, since: float) -> list[Call]:
        """Return the calls that are as far behind the least speed as if nothing of their replies was taken since a moment."""
        return [call for calls in (self._waiting, self._stalled) for call in calls.values() if call.progress < since]

    def _hold(self, call: Call, message: bytes) -> None:
        data = framed(message)
        if call.outgoing is None:
            call.outgoing = deque()
        if not call.outgoing:
            call.progress = monotonic()
        call.outgoing.append(memoryview(data))
        self.held += len(data)
        self._connection.hold(len(data))
        if call.number not in self._stalled:
            self._waiting[call.number] = call
        self.pump()

    def _unstall(self, call: Call) -> None:
        if call.send_window > 0 and self._stalled.pop(call.number, None) is not None:
            self._waiting[call.number] = call

    def _end(self, call: Call) -> None:
        assert call.trailer is not None
        block = call.trailer if call.head_sent else self._first() + RESPONSE + call.trailer
        self.write(header_frames(call.number, block, end=True))
        self._done(call)

    def _done(self, call: Call) -> None:
        if not call.ended:  # it need not go on sending
            self.write(reset(call.number, ErrorCode.NO_ERROR))
        self._connection.done(call)

    def _first(self) -> bytes:
        """Return what the next header block has to begin with."""
        prefix, self._prefix = self._prefix, b""
        self._connection.pings.forgive()
        return prefix
