"""A store that is a file is read in the event loop, as long as it is free and quick."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from rf_platform.errors import CorruptError, UnavailableError
from rf_platform.features.store import open_store
from rf_platform.settings import Settings
from rf_serving.bundle.served import ServedBundle
from rf_serving.retrieval.query import Answer, Query
from rf_serving.retrieval.retriever import Retriever
from rf_serving.retrieval.routing import Route
from rf_serving.user_features import online_reader

REPOSITORY = Path(__file__).parents[2] / "feature_repo" / "movielens"
USERS = tuple(range(1, 9))


class Counted(Retriever):
    """Counts what is read where."""

    def __init__(self, route: Route) -> None:
        super().__init__(route, fetch_seconds=20.0)
        self.here: list[list[int | str]] = []
        self.elsewhere = 0
        read_inline, read = self._reads.read_inline, self._reads.ask

        def counted_now(fetcher: Any, user_ids: Sequence[int | str], **options: Any) -> Any:
            self.here.append(list(user_ids))
            return read_inline(fetcher, user_ids, **options)

        def counted_read(*arguments: Any, **options: Any) -> None:
            self.elsewhere += 1
            read(*arguments, **options)

        reads: Any = self._reads
        reads.read_inline, reads.ask = counted_now, counted_read


@pytest.fixture
def copied(home_copy: Path) -> Settings:
    return Settings(home=home_copy, feature_repo=REPOSITORY)


@pytest.fixture
def retriever(copied: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    monkeypatch.setattr(online_reader, "_INLINE_SECONDS", 60.0)  # however busy the machine is
    bundle = ServedBundle.open(copied.workspace.bundles / "tiny-run-1")
    retriever = Counted(Route.of(bundle, open_store(copied)))
    ask(retriever)  # the first read imports drivers and opens connections
    retriever._quick._slow_until = 0.0
    retriever.here, retriever.elsewhere = [], 0
    yield retriever
    retriever.close()


def ask(retriever: Retriever, *users: int, **options: Any) -> list[Answer]:
    async def together() -> list[Answer]:
        queries = [Query(subject=user, k=5, exclude_seen=True) for user in users or (17,)]
        return await asyncio.gather(*(retriever.retrieve(query, **options) for query in queries))

    return asyncio.run(together())


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    (path,) = settings.home.glob("feast/online*.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def test_users_who_ask_together_are_read_together(retriever: Counted) -> None:
    together = ask(retriever, *USERS)
    assert sorted(user for users in retriever.here for user in users) == list(USERS)
    assert len(retriever.here) <= 2
    assert not retriever.elsewhere
    retriever._reads._away_until = time.monotonic() + 60
    elsewhere = [answer for user in USERS for answer in ask(retriever, user)]
    assert retriever.elsewhere == len(USERS)
    assert [answer.items for answer in together] == [answer.items for answer in elsewhere]
    assert all("fetch" in answer.seconds for answer in (*together, *elsewhere))
    assert not any(answer.degraded or answer.cold for answer in together)


def test_a_locked_store_is_waited_for_elsewhere_and_then_found_at_hand_again(
    retriever: Counted, copied: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (expected,) = ask(retriever)
    with locked(copied):
        begin = time.monotonic()
        with pytest.raises(UnavailableError, match=r"user_id 17 .* took longer than 0.05 s"):
            ask(retriever, fetch_seconds=0.05, degrade=False)
        assert time.monotonic() - begin < 5
        assert (len(retriever.here), retriever.elsewhere) == (2, 1)
        (degraded,) = ask(retriever, fetch_seconds=0.05)
        assert degraded.degraded
        assert (len(retriever.here), retriever.elsewhere) == (2, 2)
    retriever._reads._away_until = 0.0
    (again,) = ask(retriever)
    assert again.items == expected.items
    assert len(retriever.here) == 3


def test_slow_reads_leave_the_event_loop(retriever: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online_reader, "_INLINE_SECONDS", -1.0)
    (first,), (second,) = ask(retriever), ask(retriever)
    assert (len(retriever.here), retriever.elsewhere) == (1, 1)
    assert first.items == second.items


def test_a_read_that_computes_for_long_stays_there(retriever: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    (connected,) = retriever._reads._here.values()
    read = connected.read

    def laboriously(*arguments: Any, **options: Any) -> Any:
        begin = time.thread_time()
        while time.thread_time() - begin < 0.3:
            pass
        return read(*arguments, **options)

    monkeypatch.setattr(connected, "read", laboriously, raising=False)
    monkeypatch.setattr(online_reader, "_INLINE_SECONDS", 0.15)
    for _ in range(2):
        ask(retriever)
        retriever._quick._slow_until = 0.0  # batches are judged apart
    assert (len(retriever.here), retriever.elsewhere) == (2, 0)


def test_the_longer_a_read_takes_the_longer_nobody_reads_there(
    retriever: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    (connected,) = retriever._reads._here.values()
    read = connected.read

    def slowly(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.2)
        return read(*arguments, **options)

    monkeypatch.setattr(connected, "read", slowly, raising=False)
    monkeypatch.setattr(online_reader, "_INLINE_SECONDS", 0.1)
    monkeypatch.setattr(online_reader, "_AWAY_SECONDS", 0.0)
    ask(retriever)
    assert retriever._reads._away_until - time.monotonic() > 2.0
    ask(retriever)
    assert (len(retriever.here), retriever.elsewhere) == (1, 1)


def test_features_that_cannot_be_used_are_the_error_of_that_user_alone(
    retriever: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = type(retriever.routing.active.fetcher).decode

    def damaged(self: Any, user_id: int, row: Any) -> Any:
        if user_id == 3:
            raise CorruptError("the history of user_id 3 does not fit together")
        return decode(self, user_id, row)

    monkeypatch.setattr(type(retriever.routing.active.fetcher), "decode", damaged)

    async def together() -> list[Any]:
        queries = [Query(subject=user, k=5, exclude_seen=True) for user in USERS]
        return await asyncio.gather(*(retriever.retrieve(query) for query in queries), return_exceptions=True)

    found = dict(zip(USERS, asyncio.run(together()), strict=True))
    assert isinstance(found.pop(3), CorruptError)
    assert all(isinstance(answer, Answer) and not answer.degraded for answer in found.values())
    assert not retriever.elsewhere


def test_a_bug_in_reading_leaves_nobody_without_an_answer(retriever: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any, **options: Any) -> Any:
        raise MemoryError

    (connected,) = retriever._reads._here.values()
    monkeypatch.setattr(connected, "read", fails, raising=False)
    with structlog.testing.capture_logs() as lines:
        (answer,) = ask(retriever)
    assert lines == [{"event": "read elsewhere", "users": 1, "cause": "MemoryError()", "log_level": "debug"}]
    assert not answer.degraded
    assert (len(retriever.here), retriever.elsewhere) == (1, 1)


def test_a_store_that_is_down_is_not_asked_at_hand_either(retriever: Counted) -> None:
    for _ in range(3):
        retriever._reads.breaker.failed()
    (answer,) = ask(retriever)
    assert answer.degraded
    assert not retriever.here
