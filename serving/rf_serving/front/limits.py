"""Limits of a connection: its cost, and its times; and of all connections together."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FrontLimits:
    """Limits of a front; bytes and counts are of one connection, except for the first four."""

    connections: int = 4096
    """Connections at once; more are closed, or others in their place, by :class:`~rf_serving.front.callers.Callers`."""
    all_calls: int = 32_768
    """Calls at once of all connections; then each has its share, and more are refused with REFUSED_STREAM."""
    all_relays: int = 1000
    """Streaming calls at once of all connections; then each has its share, and more are refused with RESOURCE_EXHAUSTED."""
    all_bytes: int = 256 * 1024 * 1024
    """Messages that are not complete and replies that are not taken, of all connections; then the heaviest are closed."""

    message_bytes: int = 4 * 1024 * 1024
    """Largest message, before and after decompression."""
    streams: int = 1024
    """Calls at once; more are refused with REFUSED_STREAM."""
    relays: int = 100
    """Streaming calls at once; more are refused with RESOURCE_EXHAUSTED."""
    header_list_bytes: int = 16 * 1024
    """Longest list of headers; a longer one is answered with RESOURCE_EXHAUSTED."""
    header_block_bytes: int = 32 * 1024
    """Longest encoded block, CONTINUATION frames included; a longer one ends the connection."""
    continuations: int = 16
    """Most CONTINUATION frames of a block."""
    large_bytes: int = 16 * 1024 * 1024
    """Messages beyond the window that every stream has are let in up to so much together, one after the other (and one in any
    case)."""
    held_bytes: int = 8 * 1024 * 1024
    """Replies that the other end does not take; with more, its further calls are refused with REFUSED_STREAM."""
    resets: int = 1000
    """Calls that may be reset in a row; a hundred a second are forgiven, and one for each that is answered."""
    idle_frames: int = 4000
    """Frames that carry nothing, in a row; four hundred a second are forgiven, and some for each call and each KiB carried."""
    message_seconds: float = 10.0
    """Most time for a message to come, for a connection until it speaks HTTP/2, and for which a reply may be behind
    :attr:`least_bytes_a_second`."""
    least_bytes_a_second: int = 1024
    """Speed at which a reply has to be taken."""
    keepalive_seconds: float = 60.0
    keepalive_wait_seconds: float = 20.0
    min_ping_seconds: float = 5.0
    idle_seconds: float = 1800.0
    age_seconds: float | None = None
    grace_seconds: float = 20.0
    """Most time for the calls of a connection that has come of age."""

    @property
    def tick_seconds(self) -> float:
        """Interval at which connections are checked: a fraction of the shortest time above."""
        times = [self.message_seconds, self.keepalive_seconds, self.keepalive_wait_seconds, self.idle_seconds]
        shortest = min([*times, *([] if self.age_seconds is None else [self.age_seconds])])
        return min(max(shortest / 5, 0.01), 0.5)
