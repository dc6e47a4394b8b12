"""One connection: frames in, calls out, and what may not happen in between (RFC 9113)."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol, cast

from rf_serving.front import frames
from rf_serving.front.application import Application
from rf_serving.front.call import Call, Kind
from rf_serving.front.callers import Callers
from rf_serving.front.control_frames import ControlFrames
from rf_serving.front.ended_streams import EndedStreams
from rf_serving.front.faults import ConnectionFault, ErrorCode, StreamFault
from rf_serving.front.floods import Costs, PingPolicy
from rf_serving.front.header_blocks import HeaderBlocks
from rf_serving.front.header_decoder import HeaderDecoder
from rf_serving.front.header_encoder import refusal_block
from rf_serving.front.lifetime import Lifetime
from rf_serving.front.limits import FrontLimits
from rf_serving.front.receiver import Receiver, open_inbox
from rf_serving.front.request_head import ENCODINGS, RequestHead, check_trailers, read_head
from rf_serving.front.sender import Sender

_HEADS, _HEAD_BYTES = 64, 1024
_BAD_CALL_COST, _LONG_HEADERS_COST = 4, 40
_RELAY_COST, _TINY_BYTES = 10, 256
_DEADLINE_SLACK = 0.05
_HIGH_WATER = 256 * 1024
_UNIMPLEMENTED, _EXHAUSTED = 12, 8
DRAINING = "server is draining"


class Owner(Protocol):
    """Front that connections belong to."""

    application: Application
    limits: FrontLimits
    callers: Callers
    tls: bool
    retired: bool
    connections: set["Connection"]

    def ready(self, call: Call) -> None:
        """Take a unary call that has its message, or will have none."""

    def quiet(self) -> None:
        """Note that a connection has no calls left."""

    def too_heavy(self) -> None:
        """Note that more bytes are held than may be."""


class Connection(asyncio.Protocol):
    """An HTTP/2 connection with a client, from the preface to GOAWAY."""

    transport: asyncio.Transport
    sender: Sender
    receiver: Receiver
    lifetime: Lifetime

    def __init__(self, owner: Owner, address: str) -> None:
        self._owner, self.limits, self.address = owner, owner.limits, address
        self._callers = owner.callers
        self.handshake: asyncio.Task[None] | None = None
        self.weight = 0
        now = monotonic()
        self.calls: dict[int, Call] = {}
        self.last = 0
        """Highest stream that has been opened."""
        self.pings = PingPolicy(self.limits.min_ping_seconds)
        self.closing_since: float | None = None
        """Time since which nothing more is taken."""
        self.costs = Costs(self.limits, now)
        self._decoder = HeaderDecoder(self.limits.header_list_bytes)
        self._heads: dict[bytes, RequestHead] = {}
        self._ended = EndedStreams()
        self._relays = 0
        self._pending, self._need = bytearray(), len(frames.PREFACE)
        self._greeted = self.spoken = False
        self.blocks = HeaderBlocks(self.limits)
        control = ControlFrames(self)
        self._handlers: tuple[Callable[[int, int, bytes], None], ...] = (
            *(self._on_data, self._on_headers, control.priority, self._on_reset, control.settings),
            *(control.push, control.ping, control.goaway, control.window_update, self._on_continuation),
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(_HIGH_WATER)
        self.sender = Sender(self, self.transport, self.limits.least_bytes_a_second)
        self.receiver = Receiver(self, self.limits)
        self.lifetime = Lifetime(self)
        self._owner.connections.add(self)
        tls: Any = transport.get_extra_info("ssl_object")
        if self._owner.tls and tls.selected_alpn_protocol() != "h2":
            self.transport.abort()
            return
        streams = frames.MAX_CONCURRENT_STREAMS, self.limits.streams
        headers = frames.MAX_HEADER_LIST_SIZE, self.limits.header_list_bytes
        self.sender.write(frames.settings((streams, headers)))
        self.receiver.open()
        if self._owner.retired:  # the handshake went on meanwhile
            self.lifetime.retire(DRAINING)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all calls."""
        self._owner.connections.discard(self)
        self._callers.leave(self)
        for call in list(self.calls.values()):
            self.cancel(call)
        self._owner.quiet()

    def pause_writing(self) -> None:
        """Take nothing more in while the other end takes nothing."""
        self.sender.pause()
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        if not self.transport.is_closing():
            self.transport.resume_reading()
            self.sender.resume()

    def eof_received(self) -> bool:
        """Close: a client that has closed its half of TCP has left."""
        return False

    def data_received(self, data: bytes) -> None:
        """Read the frames that are complete."""
        if self.closing_since is not None:
            return
        self.costs.now = self.lifetime.heard = monotonic()
        if self._pending:
            self._pending += data
            if len(self._pending) < self._need:
                return
            data = bytes(self._pending)
            self._pending.clear()
        try:
            self._read(data)
        except ConnectionFault as fault:
            self.close(fault.code, fault.reason)

    def _read(self, data: bytes) -> None:
        at, end = 0, len(data)
        if not self._greeted:
            preface = frames.PREFACE
            if data[: len(preface)] != preface[:end]:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this port speaks HTTP/2 with prior knowledge")
            if end < len(preface):
                self._keep(data, len(preface))
                return
            at, self._greeted = len(preface), True
        handlers, unpack_head = self._handlers, frames.unpack_head
        while end - at >= frames.HEAD_BYTES:
            high, low, kind, flags, stream = unpack_head(data, at)
            length = high << 8 | low
            if length > frames.LARGEST_FRAME:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            begin = at + frames.HEAD_BYTES
            if end - begin < length:
                self._keep(data[at:], frames.HEAD_BYTES + length)
                return
            at = begin + length
            stream &= frames.LARGEST_WINDOW
            if self.blocks.since is not None and kind != frames.CONTINUATION:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame within a header block")
            if not self.spoken and kind != frames.SETTINGS:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is no SETTINGS")
            if kind < len(handlers):
                try:
                    handlers[kind](flags, stream, data[begin:at])
                except StreamFault as fault:
                    self._reset(stream, fault.code)
            else:
                self.costs.frame()
        if at < end:
            self._keep(data[at:], frames.HEAD_BYTES)

    def _keep(self, data: bytes, need: int) -> None:
        self._pending += data
        self._need = need

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self.receiver.count(size)
        call = self.calls.get(stream)
        if flags & frames.PADDED:
            payload = frames.unpadded(payload)
        end = bool(flags & frames.END_STREAM)
        if len(payload) < _TINY_BYTES and not end:
            self.costs.frame()
        if call is None:
            self._ended.judge(stream, end=end, last=self.last, final=self.lifetime.final)
        elif call.ended:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "data after the end")
        else:
            self.costs.carried(len(payload))
            self.receiver.take(call, size, payload, end=end)

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        block = self.blocks.begin(flags, stream, payload, self.lifetime.heard)
        if block is not None:
            self._headers(flags, stream, block)

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        self.costs.frame()
        whole = self.blocks.more(flags, stream, payload)
        if whole is not None:
            self._headers(*whole)

    def _headers(self, flags: int, stream: int, block: bytes) -> None:
        end = bool(flags & frames.END_STREAM)
        if stream > self.last:
            self.last = stream
            if self.lifetime.final:  # it came after the last one we said we take
                self.costs.frame()
                self._decoder.decode(block)
                return
            self._open(stream, block, end=end)
            return
        changes = self._decoder.changes
        headers, _ = self._decoder.decode(block)
        if self._decoder.changes != changes:
            self._heads.clear()
        call = self.calls.get(stream)
        if call is None:
            self.costs.frame(_BAD_CALL_COST)
            if stream not in self._ended and not self.lifetime.final:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"HEADERS of stream {stream}, which has ended")
            self._ended.judge(stream, end=end, last=self.last, final=self.lifetime.final)
        elif call.ended:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "headers after the end")
        elif not end:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "trailers that do not end the stream")
        else:
            check_trailers(headers)
            self.receiver.ended(call)

    def _open(self, stream: int, block: bytes, *, end: bool) -> None:
        head = self._heads.get(block)
        too_long = False
        if head is None:
            changes = self._decoder.changes
            headers, too_long = self._decoder.decode(block)
            if self._decoder.changes != changes or len(self._heads) >= _HEADS:
                self._heads.clear()
            head = RequestHead(path="") if too_long else read_head(headers)
            if self._decoder.changes == changes and len(block) <= _HEAD_BYTES and not too_long:
                self._heads[block] = head
        has, callers = len(self.calls), self._callers
        if has >= self.limits.streams or self.sender.held > self.limits.held_bytes or not callers.may_call(has):
            raise StreamFault(ErrorCode.REFUSED_STREAM, "too many calls at once")
        kind = self._owner.application.kind(head.path)
        call = Call(self, stream, head, kind or Kind.UNARY, self.sender.initial_window)
        call.ended = end
        self.calls[stream] = call
        callers.calls += 1
        if too_long:
            self.costs.frame(_LONG_HEADERS_COST)
            most = self.limits.header_list_bytes
            call.finish(_EXHAUSTED, f"received metadata is larger than max ({most} bytes)")
        elif head.http_status is not None:
            self.sender.refuse(call, refusal_block(head.http_status))
        elif head.encoding not in ENCODINGS:
            call.finish(_UNIMPLEMENTED, f"grpc-encoding {head.encoding!r} is none of {', '.join(ENCODINGS)}")
        elif kind is None:
            call.finish(_UNIMPLEMENTED, "Method not found!")
        elif kind is Kind.UNARY:
            self.lifetime.incomplete[stream] = call
            if end:
                self.receiver.ended(call)
        elif self._relays >= self.limits.relays:
            call.finish(_EXHAUSTED, f"a connection may have {self.limits.relays} streaming calls at once")
        elif not callers.may_relay(self._relays):
            call.finish(_EXHAUSTED, "there are too many streaming calls of all clients; try again later")
        else:
            self._relays += 1
            callers.relays += 1
            open_inbox(call)
            call.arrived = True
            self._owner.application.relay(call)

    def _on_reset(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM of another length than 4")
        if stream == 0 or stream > self.last:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"RST_STREAM of stream {stream}, which is idle")
        self._ended.forget(stream)
        call = self.calls.get(stream)
        if call is None:
            self.costs.frame()
            return
        now = self.costs.now
        self.costs.reset(1 if call.inbox is None else _RELAY_COST)
        if call.deadline is not None and call.deadline - now < _DEADLINE_SLACK:
            call.deadline = now  # the client's clock began earlier: it gives up because its deadline has passed
        self.cancel(call)

    def ready(self, call: Call) -> None:
        """Take a unary call that has its message, or will have none."""
        self.lifetime.incomplete.pop(call.number, None)
        if not call.closed:
            self._owner.ready(call)

    def done(self, call: Call) -> None:
        """Forget a call that was answered."""
        if call.arrived:
            self.costs.answered()
        self._forget(call)

    def cancel(self, call: Call) -> None:
        """End a call that nobody waits for any more."""
        leave, call.cancelled = call.cancelled, None
        call.answered = True
        self._forget(call)
        if leave is not None:
            leave()

    def reset_call(self, call: Call, code: ErrorCode) -> None:
        """End a call from this side."""
        if not call.closed:
            self.sender.write(frames.reset(call.number, code))
            self._ended.add(call.number)
            self.cancel(call)

    def hold(self, size: int) -> None:
        """Count bytes that are held until they are complete, or taken; or, if negative, no longer held."""
        self.weight += size
        self._callers.bytes += size
        if size > 0 and self._callers.too_heavy():
            self._owner.too_heavy()

    def _forget(self, call: Call) -> None:
        if call.closed:
            return
        call.closed = True
        number = call.number
        del self.calls[number]
        self._callers.calls -= 1
        if not call.ended:
            self._ended.add(number)
        self.lifetime.incomplete.pop(number, None)
        if call.outgoing is not None:
            self.sender.drop(call)
        if call.inbox is not None:
            self._relays -= 1
            self._callers.relays -= 1
        self.receiver.drop(call)
        if not self.calls:
            self.lifetime.emptied()
            self._owner.quiet()

    def _reset(self, stream: int, code: ErrorCode) -> None:
        self.costs.frame(_BAD_CALL_COST)
        call = self.calls.get(stream)
        if call is not None:
            self.costs.reset()
            self.reset_call(call, code)
        else:
            self._ended.add(stream)
            self.sender.write(frames.reset(stream, code))

    def need(self) -> int:
        """Return how much would be lost with this connection."""
        if not self.spoken:
            return 0
        return 3 if len(self.calls) > self._relays else 2 if self.calls else 1

    def give_way(self, reason: str) -> None:
        """Close at once."""
        if self.handshake is not None and not hasattr(self, "transport"):
            self.handshake.cancel()
        else:
            self.close(ErrorCode.ENHANCE_YOUR_CALM, reason, linger=False)

    def close(self, code: ErrorCode, reason: str, *, linger: bool = True) -> None:
        """Say why, and close: a socket closed with data unread would take what was sent last with it.

        Args:
            code: of GOAWAY.
            reason: the same, in words.
            linger: wait until the client has closed, for a second at most.
        """
        if self.closing_since is None:
            self.closing_since = monotonic()
            last = self.lifetime.taken if self.lifetime.final else self.last
            self.sender.write(frames.goaway(last, code, reason.encode()))
            self.sender.flush()
            for call in list(self.calls.values()):
                self.cancel(call)
            if linger and self.transport.can_write_eof():
                with suppress(OSError):  # the client has left
                    self.transport.write_eof()  # the other end closes, or `Lifetime.check` does
            else:
                self.transport.close()
