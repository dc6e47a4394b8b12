"""Times of a connection: keepalive, idleness, age, and what takes too long to come or to go."""

import asyncio
import random
from time import monotonic
from typing import Protocol

from rf_serving.front import frames
from rf_serving.front.call import Call
from rf_serving.front.faults import ErrorCode
from rf_serving.front.header_blocks import HeaderBlocks
from rf_serving.front.limits import FrontLimits
from rf_serving.front.messages import Lack
from rf_serving.front.sender import Sender

_KEEPALIVE, _RETIRE = b"rf-alive", b"rf-leave"
_JITTER = 0.1
_RETIRE_SECONDS = 1.0
_CLOSE_SECONDS = 1.0


class Owner(Protocol):
    """Connection that is looked after."""

    limits: FrontLimits
    transport: asyncio.Transport
    sender: Sender
    blocks: HeaderBlocks
    calls: dict[int, Call]
    last: int
    spoken: bool
    closing_since: float | None

    def ready(self, call: Call) -> None:
        """Take a unary call that has its message, or will have none."""

    def reset_call(self, call: Call, code: ErrorCode) -> None:
        """End a call from this side."""

    def close(self, code: ErrorCode, reason: str) -> None:
        """Send the reason, and close."""


class Lifetime:
    """Looks after one connection whenever :meth:`check` is called."""

    def __init__(self, connection: Owner) -> None:
        self._connection, self._limits = connection, connection.limits
        now = monotonic()
        self._made = self._idle_since = self.heard = now
        age = self._limits.age_seconds
        self._retires = None if age is None else now + age * random.uniform(1 - _JITTER, 1 + _JITTER)
        self._asked: float | None = None
        self._retired: float | None = None
        self.final = False
        """Further calls are not taken."""
        self.taken = 0
        """Highest stream that was taken, as the client was told; set with :attr:`final`."""
        self.incomplete: dict[int, Call] = {}
        """Unary calls without their message, oldest first."""

    def emptied(self) -> None:
        """Note that there are no calls left."""
        self._idle_since = monotonic()
        if self.final:
            self._connection.close(ErrorCode.NO_ERROR, "")

    def acknowledged(self, payload: bytes) -> None:
        """Take the answer to a ping."""
        if payload == _RETIRE and self._retired is not None:
            self.finalise()

    def retire(self, reason: str) -> None:
        """Ask the client to open no further calls; those that are on their way are still taken."""
        if self._retired is None and self._connection.closing_since is None:
            self._retired = monotonic()
            write = self._connection.sender.write
            write(frames.goaway(frames.LARGEST_WINDOW, ErrorCode.NO_ERROR, reason.encode()))
            write(frames.frame(frames.PING, 0, 0, _RETIRE))

    def finalise(self) -> None:
        """Take no further calls, and close once those there are have ended."""
        connection = self._connection
        if not self.final and connection.closing_since is None:
            self.final, self.taken = True, connection.last
            if connection.calls:
                connection.sender.write(frames.goaway(connection.last, ErrorCode.NO_ERROR))
            else:
                connection.close(ErrorCode.NO_ERROR, "")

    def check(self, now: float) -> None:
        """End what is over."""
        connection, limits = self._connection, self._limits
        if connection.closing_since is not None:
            if now - connection.closing_since > _CLOSE_SECONDS:
                connection.transport.abort()
            return
        wait = limits.message_seconds
        paused = connection.sender.paused_since
        if paused is not None and now - paused > wait:
            connection.transport.abort()
            return
        if not connection.spoken and now - self._made > wait:
            connection.close(ErrorCode.SETTINGS_TIMEOUT, "no SETTINGS")
            return
        block_since = connection.blocks.since
        if block_since is not None and now - block_since > wait:
            connection.close(ErrorCode.ENHANCE_YOUR_CALM, "a header block that does not end")
            return
        for call in list(self.incomplete.values()):
            if now - call.began <= wait:
                break
            call.message = Lack.LATE
            connection.ready(call)
        for call in connection.sender.stuck(now - wait):
            connection.reset_call(call, ErrorCode.CANCEL)
        self._check_life(now)

    def _check_life(self, now: float) -> None:
        connection, limits = self._connection, self._limits
        if self._asked is not None and self.heard >= self._asked:
            self._asked = None
        if self._asked is None and now - self.heard > limits.keepalive_seconds:
            self._asked = now
            connection.sender.write(frames.frame(frames.PING, 0, 0, _KEEPALIVE))
        elif self._asked is not None and now - self._asked > limits.keepalive_wait_seconds:
            connection.close(ErrorCode.ENHANCE_YOUR_CALM, "keepalive_timeout")
            return
        if not connection.calls and now - self._idle_since > limits.idle_seconds:
            self.retire("max_idle")
        if self._retires is not None and now > self._retires:
            self.retire("max_age")
            if now > self._retires + limits.grace_seconds:
                connection.close(ErrorCode.NO_ERROR, "max_age")
                return
        if self._retired is not None and now - self._retired > _RETIRE_SECONDS:
            self.finalise()
