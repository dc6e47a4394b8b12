"""Streams of a connection that have ended at this end, and of which frames may still come (RFC 9113, section 5.1)."""

from rf_serving.front.faults import ConnectionFault, ErrorCode, StreamFault

_MOST = 1024


class EndedStreams:
    """Remembers the latest of them: frames that were sent before their end arrived at the other end are let pass."""

    def __init__(self) -> None:
        self._streams: dict[int, None] = {}

    def __contains__(self, stream: int) -> bool:
        return stream in self._streams

    def add(self, stream: int) -> None:
        """Remember a stream that has not ended at the other end."""
        self._streams[stream] = None
        if len(self._streams) > _MOST:
            del self._streams[next(iter(self._streams))]

    def forget(self, stream: int) -> None:
        """Forget a stream of which nothing more may come."""
        self._streams.pop(stream, None)

    def judge(self, stream: int, *, end: bool, last: int, final: bool) -> None:
        """Judge a frame of a stream that is not open.

        Args:
            stream: of the frame.
            end: nothing follows.
            last: highest stream that was opened.
            final: further calls are not taken, so that there may be streams of which nothing is known.

        Raises:
            ConnectionFault: there was no such stream yet.
            StreamFault: it had ended at both ends.
        """
        if stream == 0 or stream > last or not stream & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a frame of stream {stream}, which is idle")
        if stream in self._streams:
            if end:
                del self._streams[stream]
        elif not final:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "a frame of a stream that has ended")
