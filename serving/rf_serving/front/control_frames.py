"""Frames of a connection as a whole: SETTINGS, PING, GOAWAY, windows, and those that carry nothing (RFC 9113, section 6)."""

from typing import Protocol

from rf_serving.front import frames
from rf_serving.front.call import Call
from rf_serving.front.faults import ConnectionFault, ErrorCode, StreamFault
from rf_serving.front.floods import Costs, PingPolicy
from rf_serving.front.lifetime import Lifetime
from rf_serving.front.sender import Sender

_CALLS_WORTH_A_FRAME = 4


class Owner(Protocol):
    """Connection that the frames are of."""

    sender: Sender
    lifetime: Lifetime
    costs: Costs
    pings: PingPolicy
    calls: dict[int, Call]
    last: int
    spoken: bool


class ControlFrames:
    """Handlers of the frames that neither open nor end a call, nor carry data."""

    def __init__(self, connection: Owner) -> None:
        self._connection = connection

    def priority(self, flags: int, stream: int, payload: bytes) -> None:
        """Ignore a priority."""
        self._connection.costs.frame()
        if stream == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY of the connection")
        if len(payload) != 5:
            raise StreamFault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY of another length than 5")

    def settings(self, flags: int, stream: int, payload: bytes) -> None:
        """Take the settings of the other end, and acknowledge them."""
        self._connection.costs.frame()
        if stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS that acknowledge and say more")
            if not self._connection.spoken:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is no SETTINGS")
            return
        self._connection.spoken = True
        found = frames.read_settings(payload)
        for key, value in found:
            if key == frames.HEADER_TABLE_SIZE:
                self._connection.sender.table_changed(value)
        windows = [value for key, value in found if key == frames.INITIAL_WINDOW_SIZE]
        if windows:  # the last one counts; a change of it concerns, and may send data of, every call
            self._connection.costs.frame(1 + len(self._connection.calls) / _CALLS_WORTH_A_FRAME)
            self._connection.sender.new_initial_window(windows[-1])
        self._connection.sender.write(frames.frame(frames.SETTINGS, frames.ACK, 0))

    def push(self, flags: int, stream: int, payload: bytes) -> None:
        """Refuse a push, which is not for clients."""
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE of a client")

    def ping(self, flags: int, stream: int, payload: bytes) -> None:
        """Answer a ping, or note the answer to one."""
        self._connection.costs.frame()
        if stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING of another length than 8")
        if flags & frames.ACK:
            self._connection.lifetime.acknowledged(payload)
            return
        self._connection.pings.received(self._connection.lifetime.heard)
        self._connection.sender.write(frames.frame(frames.PING, frames.ACK, 0, payload))

    def goaway(self, flags: int, stream: int, payload: bytes) -> None:
        """Take note that the client opens no further calls; it closes when it has its answers, or is idle."""
        self._connection.costs.frame()
        if stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY that is too short")

    def window_update(self, flags: int, stream: int, payload: bytes) -> None:
        """Send more, if there is more."""
        self._connection.costs.frame()
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE of another length than 4")
        more = int.from_bytes(payload, "big") & frames.LARGEST_WINDOW
        if stream == 0:
            self._connection.sender.more_window(more)
        elif (call := self._connection.calls.get(stream)) is not None:
            self._connection.sender.more_call_window(call, more)
        elif stream > self._connection.last or not stream & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"WINDOW_UPDATE of stream {stream}, which is idle")
