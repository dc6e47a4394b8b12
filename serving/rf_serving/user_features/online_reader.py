"""Stage "fetch" inside a server: reads from the online store, in time or not at all.

One thread reads for all requests. What comes in while it reads is read together next, in one round trip, so a busy server
asks the store less often per request, and no request waits for others. A store that is a file is read in the event loop
instead, as long as it is free and quick: waking the thread up, and the event loop again, takes longer than the read.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from weakref import WeakKeyDictionary

import structlog

from rf_platform.errors import RfError, UnavailableError
from rf_protos.v1.retrieval_pb2 import DEGRADED_REASON_UNSPECIFIED, DegradedReason
from rf_serving.threads import hand_over
from rf_serving.user_features.breaker import Breaker
from rf_serving.user_features.features import UserFeatures
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
"""A read that takes longer, or fails, sends those of the next second to the thread, or of twenty times as long as it took."""


@dataclass(eq=False)
class _PendingRead:
    fetcher: FeatureFetcher
    user: int | str
    seen: bool
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[UserFeatures]"


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
        self._log = structlog.get_logger("rf_serving")

    async def fetch(
        self, fetcher: FeatureFetcher, user_id: int | str, seconds: float = FETCH_SECONDS, *, seen: bool = False
    ) -> UserFeatures:
        """Return the features of a user.

        Args:
            fetcher: reads them.
            user_id: the user.
            seconds: how long the store may take.
            seen: whether the seen set is needed.

        Raises:
            UnavailableError: the store cannot be read, was too slow, or is not asked at present because it is down.
            CorruptError: what is stored of the user cannot be used.
        """
        if not self.breaker.allows():
            raise UnavailableError(
                f"the features of user_id {user_id!r} are not read: the online store failed and is tried again shortly"
            )
        loop = asyncio.get_running_loop()
        ask = _PendingRead(fetcher, user_id, seen, loop, loop.create_future())
        self._working_reader().asks.put(ask)
        # A turn later: what the store has answered by then is on its way, and counts.
        timer = loop.call_later(seconds, loop.call_soon, _too_late, ask.future)
        try:
            features = await ask.future
        except TimeoutError as error:
            if self._store_is_slow(seconds):
                self.breaker.failed()
            raise UnavailableError(
                f"the features of user_id {user_id!r} cannot be read: the online store took longer than {seconds:g} s"
            ) from error
        except UnavailableError:
            self.breaker.failed()
            raise
        except RfError:
            self.breaker.succeeded()  # the store answered
            raise
        finally:
            timer.cancel()
        self.breaker.succeeded()
        return features

    def is_local(self, fetcher: FeatureFetcher) -> bool:
        """Whether :meth:`read_inline` is to be preferred to :meth:`fetch`."""
        return fetcher.is_local and not self.breaker.is_open and monotonic() >= self._away_until

    def read_inline(
        self, fetcher: FeatureFetcher, user_ids: Sequence[int | str], *, seen: bool = False
    ) -> list[UserFeatures | Exception] | None:
        """Return the features of users, read in the event loop, in one go, with their seen sets if these are needed.

        A user whose features cannot be used has an error instead. None: the store is locked, or fails; :meth:`fetch` waits
        for it and says what is wrong.
        """
        begin = monotonic()
        done: list[UserFeatures | Exception] | None = None
        try:
            if (connected := self._here.get(fetcher)) is None:
                connected = self._here[fetcher] = fetcher.connected(wait_seconds=0.0)
            rows = connected.read(user_ids, seen=seen)
        except Exception as error:
            # The thread waits for a store that is locked, and says what is wrong with one that fails.
            self._log.debug("read elsewhere", users=len(user_ids), cause=repr(error.__cause__ or error))
        else:
            done = [_decoded(connected, user, row) for user, row in zip(user_ids, rows, strict=True)]
            self.breaker.succeeded()
        now = monotonic()
        if done is None or now - begin > _INLINE_SECONDS:
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


def _too_late(future: "asyncio.Future[UserFeatures]") -> None:
    if not future.done():
        future.set_exception(TimeoutError())


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
            if not each.future.done():  # else its request has given up
                groups.setdefault(each.fetcher, []).append(each)
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
        rows = connected.read([ask.user for ask in asks], seen=any(ask.seen for ask in asks))
    except Exception as error:
        return [error] * len(asks)
    return [_decoded(connected, ask.user, row) for ask, row in zip(asks, rows, strict=True)]


def _decoded(fetcher: FeatureFetcher, user_id: int | str, row: Row) -> UserFeatures | Exception:
    try:
        return fetcher.decode(user_id, row)
    except Exception as error:
        return error
