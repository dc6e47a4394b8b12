"""Stage "fetch" inside a server: reads from the online store, in time or not at all.

One thread reads for all requests. What comes in while it reads is read together next, in one round trip, so a busy server
asks the store less often per request, and no request waits for others. A store that is a file is read in the event loop
instead, as long as it is free and quick: waking the thread up, and the event loop again, takes longer than the read.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from weakref import WeakKeyDictionary

import structlog

from rf_platform.errors import RfError, UnavailableError
from rf_protos.v1.retrieval_pb2 import DEGRADED_REASON_UNSPECIFIED, DegradedReason
from rf_serving.breaker import Breaker
from rf_serving.threads import busy_seconds, hand_over
from rf_serving.user_features.features import SeenRead, UserFeatures
from rf_serving.user_features.fetcher import FeatureFetcher
from rf_serving.user_features.online_rows import Row

FETCH_SECONDS = 0.05
"""Default time limit of the online store for a request."""
_STORE_SHARE = 0.5
"""Share of a request's time that the read which is going on must have taken, for the store to count as slow."""
_TOGETHER = 64
_STUCK_SECONDS = 3.0
_MOST_STUCK = 8
_INLINE_SECONDS, _AWAY_SECONDS, _AWAY_TIMES = 0.02, 1.0, 20
"""A read that waits longer for the store, or fails, sends those of the next second to the thread, or of twenty times as long as
it took. What it computes meanwhile does not count: a thread beside a busy event loop computes the same, and later."""


Settle = Callable[[UserFeatures | Exception], None]
"""Receives a user's features, or why there are none."""


@dataclass(eq=False, slots=True)
class _PendingRead:
    fetcher: FeatureFetcher | None
    user: int | str
    seen: int
    timed: bool
    loop: asyncio.AbstractEventLoop
    due: float
    answered: Settle | None
    done: bool = False

    def settle(self, result: UserFeatures | Exception) -> None:
        """Hand the result over, once."""
        answered, self.answered, self.done = self.answered, None, True
        self.fetcher = None  # nothing of a request outlives its answer
        if answered is not None:
            answered(result)


@dataclass(eq=False)
class _Reader:
    """A thread with connections of its own."""

    asks: "SimpleQueue[_PendingRead | None]" = field(default_factory=SimpleQueue)
    busy_since: float | None = None
    abandoned: bool = False
    connected: "WeakKeyDictionary[FeatureFetcher, FeatureFetcher]" = field(default_factory=WeakKeyDictionary)


class OnlineReader:
    """Reads users' features for the event loop, within a time budget and behind a circuit breaker."""

    def __init__(self, breaker: Breaker | None = None, stuck_seconds: float = _STUCK_SECONDS) -> None:
        """Start the reading thread.

        Args:
            breaker: what stands between requests and a store that is down.
            stuck_seconds: a read that takes longer is given up, with its thread and connection.
        """
        self.breaker = breaker or Breaker()
        self.fault: DegradedReason = DEGRADED_REASON_UNSPECIFIED
        """Fault of the store's content: answers from it are degraded. Assigned from any thread."""
        self._stuck_seconds = stuck_seconds
        self._stuck: list[_Reader] = []
        self._reader = self._start()
        self._here: WeakKeyDictionary[FeatureFetcher, FeatureFetcher] = WeakKeyDictionary()
        self._away_until = 0.0
        self._waiting: dict[tuple[asyncio.AbstractEventLoop, float], deque[_PendingRead]] = {}
        """Reads that are going on, by loop and time limit; the oldest first."""
        self._log = structlog.get_logger("rf_serving")

    async def fetch(
        self,
        fetcher: FeatureFetcher,
        user_id: int | str,
        seconds: float = FETCH_SECONDS,
        *,
        seen: int = SeenRead.NOTHING,
        timed: bool = False,
    ) -> UserFeatures:
        """Return the features of a user.

        Args:
            fetcher: reads them.
            user_id: the user.
            seconds: how long the store may take.
            seen: what of the seen set is needed (:class:`SeenRead`).
            timed: whether the event timestamps of the rows are needed.

        Raises:
            UnavailableError: the store cannot be read, was too slow, or is not asked at present because it is down.
            CorruptError: what is stored of the user cannot be used.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[UserFeatures] = loop.create_future()

        def settle(result: UserFeatures | Exception) -> None:
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.ask(fetcher, user_id, settle, seconds, seen=seen, timed=timed)
        return await future

    def ask(
        self,
        fetcher: FeatureFetcher,
        user_id: int | str,
        settle: Settle,
        seconds: float = FETCH_SECONDS,
        *,
        seen: int = SeenRead.NOTHING,
        timed: bool = False,
    ) -> None:
        """Have the features of a user read; ``settle`` gets them, or the error, later: as :meth:`fetch`."""
        loop = asyncio.get_running_loop()
        if not self.breaker.allows():
            message = (
                f"the features of user_id {user_id!r} are not read: the online store failed and is tried again shortly"
            )
            loop.call_soon(settle, UnavailableError(message))
            return

        def answered(result: UserFeatures | Exception) -> None:
            if isinstance(result, TimeoutError):
                if self._store_is_slow(seconds):
                    self.breaker.failed()
                result = UnavailableError(
                    f"the features of user_id {user_id!r} cannot be read: the online store took longer than {seconds:g} s"
                )
            elif isinstance(result, UnavailableError):
                self.breaker.failed()
            elif isinstance(result, RfError | UserFeatures):
                self.breaker.succeeded()  # the store answered
            settle(result)

        pending = _PendingRead(fetcher, user_id, seen, timed, loop, monotonic() + seconds, answered)
        self._working_reader().asks.put(pending)
        self._limit(pending, seconds)

    def _limit(self, pending: _PendingRead, seconds: float) -> None:
        """See to it that a read ends in time; one timer serves all that may take as long."""
        key = (pending.loop, seconds)
        if (waiting := self._waiting.get(key)) is None:
            self._waiting[key] = waiting = deque()
            self._look_later(key, seconds)
        waiting.append(pending)

    def _look_later(self, key: tuple[asyncio.AbstractEventLoop, float], seconds: float) -> None:
        # A turn later: what the store has answered by then is on its way, and counts.
        key[0].call_later(seconds, key[0].call_soon, self._end_late, key)

    def _end_late(self, key: tuple[asyncio.AbstractEventLoop, float]) -> None:
        waiting, now = self._waiting[key], monotonic()
        while waiting and (waiting[0].done or waiting[0].due <= now):
            waiting.popleft().settle(TimeoutError())
        if waiting:
            self._look_later(key, max(0.0, waiting[0].due - now))
        else:
            del self._waiting[key]

    def is_local(self, fetcher: FeatureFetcher) -> bool:
        """Whether :meth:`read_inline` is to be preferred to :meth:`fetch`."""
        return fetcher.is_local and not self.breaker.is_open and monotonic() >= self._away_until

    def read_inline(
        self,
        fetcher: FeatureFetcher,
        user_ids: Sequence[int | str],
        *,
        seen: int = SeenRead.NOTHING,
        timed: bool = False,
    ) -> list[UserFeatures | Exception] | None:
        """Return the features of users, read in the event loop, in one go, with their seen sets if these are needed.

        A user whose features cannot be used has an error instead. None: the store is locked, or fails; :meth:`fetch` waits
        for it and says what is wrong.
        """
        begin, busy = monotonic(), busy_seconds()
        done: list[UserFeatures | Exception] | None = None
        try:
            if (connected := self._here.get(fetcher)) is None:
                connected = self._here[fetcher] = fetcher.connected(wait_seconds=0.0)
            rows = connected.read(user_ids, seen=seen, timed=timed)
        except Exception as error:
            # The thread waits for a store that is locked, and says what is wrong with one that fails.
            self._log.debug("read elsewhere", users=len(user_ids), cause=repr(error.__cause__ or error))
        else:
            done = [_decoded(connected, user, row) for user, row in zip(user_ids, rows, strict=True)]
            self.breaker.succeeded()
        now = monotonic()
        if done is None or now - begin - (busy_seconds() - busy) > _INLINE_SECONDS:
            self._away_until = now + max(_AWAY_SECONDS, _AWAY_TIMES * (now - begin))
        return done

    def close(self) -> None:
        """Stop the thread; requests that wait get no answer from the store."""
        for connected in list(self._here.values()):
            connected.close()
        self._reader.abandoned = True
        self._reader.asks.put(None)

    def _store_is_slow(self, seconds: float) -> bool:
        """Whether it is the store that took the time: requests that wait behind others of a busy server say nothing of it."""
        since = self._reader.busy_since
        return since is not None and monotonic() - since >= _STORE_SHARE * seconds

    def _start(self) -> _Reader:
        reader = _Reader()
        Thread(target=_run, args=(reader,), name="rf-read", daemon=True).start()
        return reader

    def _working_reader(self) -> _Reader:
        """Return the reader, or a new one in place of one that hangs in the store, as long as few of those do."""
        reader = self._reader
        since = reader.busy_since
        if since is None or monotonic() - since < self._stuck_seconds:
            return reader
        self._stuck = [r for r in self._stuck if r.busy_since is not None]
        if len(self._stuck) >= _MOST_STUCK:
            return reader
        reader.abandoned = True
        reader.asks.put(None)
        self._stuck.append(reader)
        self._reader = self._start()
        return self._reader


def _run(reader: _Reader) -> None:
    while (ask := reader.asks.get()) is not None:
        asks = [ask]
        with suppress(Empty):
            while len(asks) < _TOGETHER:
                if (more := reader.asks.get_nowait()) is None:
                    reader.asks.put(None)
                    break
                asks.append(more)
        groups: dict[FeatureFetcher, list[_PendingRead]] = {}
        for each in asks:
            if (reads := each.fetcher) is not None:  # else its request has given up
                groups.setdefault(reads, []).append(each)
        for fetcher, group in groups.items():
            reader.busy_since = monotonic()
            done = _read(reader, fetcher, group)
            reader.busy_since = None
            hand_over(group, done)
    for connected in list(reader.connected.values()):
        connected.close()


def _read(reader: _Reader, fetcher: FeatureFetcher, asks: list[_PendingRead]) -> list[UserFeatures | Exception]:
    try:
        connected = reader.connected.get(fetcher)
        if connected is None:
            connected = reader.connected[fetcher] = fetcher.connected()
        rows = connected.read(
            [ask.user for ask in asks], seen=max(ask.seen for ask in asks), timed=any(ask.timed for ask in asks)
        )
    except Exception as error:
        return [error] * len(asks)
    return [_decoded(connected, ask.user, row) for ask, row in zip(asks, rows, strict=True)]


def _decoded(fetcher: FeatureFetcher, user_id: int | str, row: Row) -> UserFeatures | Exception:
    try:
        return fetcher.decode(user_id, row)
    except Exception as error:
        return error
