"""One connection: frames in, calls out, and what may not happen in between (RFC 9113)."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol, cast

from rf_serving.front import frames
from rf_serving.front.application import Application
from rf_serving.front.call import Call, Kind
from rf_serving.front.control_frames import ControlFrames
from rf_serving.front.faults import ConnectionFault, ErrorCode, StreamFault
from rf_serving.front.floods import Budget, PingPolicy
from rf_serving.front.header_decoder import HeaderDecoder
from rf_serving.front.header_encoder import refusal_block
from rf_serving.front.lifetime import Lifetime
from rf_serving.front.limits import FrontLimits
from rf_serving.front.receiver import Receiver, open_inbox
from rf_serving.front.request_head import ENCODINGS, RequestHead, check_trailers, read_head
from rf_serving.front.sender import Sender

_HEADS = 64
_REMEMBERED = 2048
_BAD_CALL_COST = 4
_WORTH_OF_CALL, _BYTES_WORTH_ONE = 8, 1024
_RESET_RATE, _FRAME_RATE = 100.0, 400.0
_DEADLINE_SLACK = 0.05
_HIGH_WATER = 256 * 1024
_UNIMPLEMENTED, _EXHAUSTED = 12, 8
DRAINING = "server is draining"


class Owner(Protocol):
    """Front that connections belong to."""

    application: Application
    limits: FrontLimits
    tls: bool
    retired: bool
    connections: set["Connection"]

    def ready(self, call: Call) -> None:
        """Take a unary call that has its message, or will have none."""

    def quiet(self) -> None:
        """Note that a connection has no calls left."""


class Connection(asyncio.Protocol):
    """An HTTP/2 connection with a client, from the preface to GOAWAY."""

    transport: asyncio.Transport
    sender: Sender
    receiver: Receiver
    lifetime: Lifetime

    def __init__(self, owner: Owner) -> None:
        self._owner, self.limits = owner, owner.limits
        now = monotonic()
        self.calls: dict[int, Call] = {}
        self.last = 0
        """Highest stream that has been opened."""
        self.pings = PingPolicy(self.limits.min_ping_seconds)
        self.closing_since: float | None = None
        """Time since which nothing more is taken."""
        self._resets = Budget(self.limits.resets, _RESET_RATE, "too many calls are reset", now)
        self._idle_frames = Budget(self.limits.idle_frames, _FRAME_RATE, "too many frames that carry nothing", now)
        self._decoder = HeaderDecoder(self.limits.header_list_bytes)
        self._heads: dict[bytes, RequestHead] = {}
        self._remembered: dict[int, None] = {}
        self._relays = 0
        self._pending, self._need = bytearray(), len(frames.PREFACE)
        self._greeted = self.spoken = False
        self._block: tuple[int, int, bytearray] | None = None
        self._block_parts = 0
        control = ControlFrames(self)
        self._handlers: tuple[Callable[[int, int, bytes], None], ...] = (
            *(self._on_data, self._on_headers, control.priority, self._on_reset, control.settings),
            *(control.push, control.ping, control.goaway, control.window_update, self._on_continuation),
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(_HIGH_WATER)
        self.sender = Sender(self, self.transport)
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
        self.lifetime.heard = monotonic()
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
            if self._block is not None and kind != frames.CONTINUATION:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame within a header block")
            if not self.spoken and kind != frames.SETTINGS:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is no SETTINGS")
            if kind < len(handlers):
                try:
                    handlers[kind](flags, stream, data[begin:at])
                except StreamFault as fault:
                    self._reset(stream, fault.code)
            else:
                self.spend()
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
        if not payload and not end:
            self.spend()
        if call is None:
            self._on_ended_stream(stream, end)
        elif call.ended:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "data after the end")
        else:
            self.earned(len(payload))
            self.receiver.take(call, size, payload, end=end)

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if flags & frames.PADDED:
            payload = frames.unpadded(payload)
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without the priority they announce")
            payload = payload[5:]
        if not stream & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {stream}")
        if flags & frames.END_HEADERS:
            self._headers(flags, stream, payload)
        else:
            self._block, self._block_parts = (flags, stream, bytearray(payload)), 0
            self.lifetime.block_since = self.lifetime.heard

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._block is None or self._block[1] != stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of no header block")
        first_flags, _, block = self._block
        block += payload
        self._block_parts += 1
        if self._block_parts > self.limits.continuations or len(block) > self.limits.header_block_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block that is too long")
        if flags & frames.END_HEADERS:
            self._block = self.lifetime.block_since = None
            self._headers(first_flags, stream, bytes(block))

    def _headers(self, flags: int, stream: int, block: bytes) -> None:
        end = bool(flags & frames.END_STREAM)
        if stream > self.last:
            self.last = stream
            if self.lifetime.final:  # it came after the last one we said we take
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
            if stream not in self._remembered and not self.lifetime.final:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"HEADERS of stream {stream}, which has ended")
            self._on_ended_stream(stream, end)
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
            if self._decoder.changes == changes and not too_long:
                self._heads[block] = head
        if len(self.calls) >= self.limits.streams or self.sender.held > self.limits.held_bytes:
            raise StreamFault(ErrorCode.REFUSED_STREAM, "too many calls at once")
        kind = self._owner.application.kind(head.path)
        call = Call(self, stream, head, kind or Kind.UNARY, self.sender.initial_window)
        call.ended = end
        self.calls[stream] = call
        if too_long:
            self.spend(_BAD_CALL_COST)
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
        else:
            self._relays += 1
            open_inbox(call)
            call.arrived = True
            self._owner.application.relay(call)

    def _on_ended_stream(self, stream: int, end: bool) -> None:
        """Judge a frame of a stream that is not open: ours may have crossed it on the way."""
        if stream == 0 or stream > self.last or not stream & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a frame of stream {stream}, which is idle")
        if stream in self._remembered:
            if end:
                del self._remembered[stream]
        elif not self.lifetime.final:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "a frame of a stream that has ended")

    def _on_reset(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM of another length than 4")
        if stream == 0 or stream > self.last:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"RST_STREAM of stream {stream}, which is idle")
        self._remembered.pop(stream, None)
        call = self.calls.get(stream)
        if call is None:
            self.spend()
            return
        now = self.lifetime.heard
        self._resets.spend(now)
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
        self._resets.earn()
        self._idle_frames.earn(_WORTH_OF_CALL)
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
            self._remember(call.number)
            self.cancel(call)

    def earned(self, size: int) -> None:
        """Note bytes that were of use."""
        self._idle_frames.earn(size / _BYTES_WORTH_ONE)

    def spend(self, cost: float = 1.0) -> None:
        """Count a frame that carries nothing."""
        self._idle_frames.spend(self.lifetime.heard, cost)

    def _forget(self, call: Call) -> None:
        if call.closed:
            return
        call.closed = True
        number = call.number
        del self.calls[number]
        if not call.ended:
            self._remember(number)
        self.lifetime.incomplete.pop(number, None)
        if call.outgoing is not None:
            self.sender.drop(call)
        if call.inbox is not None:
            self._relays -= 1
        self.receiver.drop(call)
        if not self.calls:
            self.lifetime.emptied()
            self._owner.quiet()

    def _reset(self, stream: int, code: ErrorCode) -> None:
        self.spend(_BAD_CALL_COST)
        call = self.calls.get(stream)
        if call is not None:
            self.reset_call(call, code)
        else:
            self._remember(stream)
            self.sender.write(frames.reset(stream, code))

    def _remember(self, stream: int) -> None:
        """Let frames of a stream pass that were sent before its end arrived there."""
        remembered = self._remembered
        remembered[stream] = None
        if len(remembered) > _REMEMBERED:
            del remembered[next(iter(remembered))]

    def close(self, code: ErrorCode, reason: str) -> None:
        """Say why, and close: a socket closed with data unread would take what was sent last with it."""
        if self.closing_since is None:
            self.closing_since = monotonic()
            self.sender.write(frames.goaway(self.last, code, reason.encode()))
            self.sender.flush()
            for call in list(self.calls.values()):
                self.cancel(call)
            if self.transport.can_write_eof():
                self.transport.write_eof()  # the other end closes, or `Lifetime.check` does
            else:
                self.transport.close()
