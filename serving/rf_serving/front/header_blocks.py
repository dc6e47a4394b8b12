"""Header blocks of a connection, put together from HEADERS and CONTINUATION frames (RFC 9113, sections 6.2 and 6.10)."""

from rf_serving.front import frames
from rf_serving.front.faults import ConnectionFault, ErrorCode
from rf_serving.front.limits import FrontLimits


class HeaderBlocks:
    """The block that has begun and not ended, if there is one: nothing else may come before its end."""

    def __init__(self, limits: FrontLimits) -> None:
        self._limits = limits
        self._flags, self._stream, self._parts = 0, 0, 0
        self._block: bytearray | None = None
        self.since: float | None = None
        """Time at which it began."""

    def begin(self, flags: int, stream: int, payload: bytes, now: float) -> bytes | None:
        """Take a HEADERS frame; return the block if that is all of it.

        Raises:
            ConnectionFault: the frame is none of a request.
        """
        if flags & frames.PADDED:
            payload = frames.unpadded(payload)
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without the priority they announce")
            payload = payload[5:]
        if not stream & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {stream}")
        if flags & frames.END_HEADERS:
            return payload
        self._flags, self._stream, self._parts, self._block, self.since = flags, stream, 0, bytearray(payload), now
        return None

    def more(self, flags: int, stream: int, payload: bytes) -> tuple[int, int, bytes] | None:
        """Take a CONTINUATION frame; return flags, stream and block if it is the last one.

        Raises:
            ConnectionFault: it belongs to no block, or the block is too long.
        """
        if self._block is None or self._stream != stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of no header block")
        self._block += payload
        self._parts += 1
        if self._parts > self._limits.continuations or len(self._block) > self._limits.header_block_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block that is too long")
        if not flags & frames.END_HEADERS:
            return None
        block, self._block, self.since = bytes(self._block), None, None
        return self._flags, stream, block
