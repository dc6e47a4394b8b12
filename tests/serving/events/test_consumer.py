"""The thread that follows the log, and what it takes for possibly done when it takes over."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event as Flag
from typing import Any

import pytest

from rf_platform.data.event_log import EventLog, EventParts
from rf_platform.errors import UnavailableError
from rf_serving.events.consumer import EventConsumer, Progress
from rf_serving.events.leadership import FileLeadership

T0 = 1_600_000_000_000_000


class Lingering(FileLeadership):
    """A lock whose last holder may not have noticed that it lost it."""

    lease_grace_seconds = 60.0


class Gated:
    """A log that is read no further than it is let, and whose newest event cannot be told as often as it is to fail."""

    def __init__(self, log: EventLog) -> None:
        self._log, self.gate, self.reads, self.failures = log, Flag(), 0, 0
        self.gate.set()

    def head(self) -> int:
        if self.failures:
            self.failures -= 1
            raise UnavailableError("the log cannot be read")
        return self._log.head()

    def read(self, after: int, most: int) -> Any:
        self.reads += 1
        self.gate.wait(30)
        return self._log.read(after, most)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


@contextmanager
def applying(
    shop: Any,
    log: Any,
    kind: type[FileLeadership] = FileLeadership,
    observe: Callable[[Progress], None] = lambda progress: None,
) -> Iterator[EventConsumer]:
    """Follow the log as on a host without the tables."""
    leadership = kind(shop.settings.workspace.events / "test.lock")
    parts = EventParts(shop.settings.workspace.events)
    applier = EventConsumer(log, leadership, lambda: shop.history(tables=False), observe, parts=parts)
    try:
        yield applier
    finally:
        applier.close()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def all_applied(log: EventLog) -> Callable[[], bool]:
    return lambda: log.state().applied == log.head()


@pytest.fixture
def log(shop: Any) -> Iterator[EventLog]:
    """With nothing in it that is not applied."""
    log = shop.log
    assert log.advance(log.state(), log.head())
    yield log
    log.close()


def test_an_event_recorded_later_is_new_however_much_it_is_like_another(
    shop: Any, log: EventLog, event: Callable[..., Any]
) -> None:
    with applying(shop, log) as applier:
        for number in range(3):
            log.append([[event(93_000 + number, 107, 100, T0 + number)]])
            applier.wake()
            wait_for(all_applied(log))
    assert shop.online([107])[107]["item_ids"] == [100, 100, 100]


def test_what_was_recorded_before_a_takeover_may_be_done_already(
    shop: Any, log: EventLog, event: Callable[..., Any]
) -> None:
    log.append([[event(93_010 + number, 108, 100 + number, T0) for number in range(3)]])
    waiting = log.read(log.state().applied, 10)
    shop.history(tables=False).apply(waiting[:2])  # and then it died
    gated = Gated(log)
    gated.failures = 2
    with applying(shop, gated):
        wait_for(all_applied(log))
    assert shop.online([108])[108]["item_ids"] == [100, 101, 102]


@pytest.mark.parametrize(("kind", "items"), [(FileLeadership, [100, 100]), (Lingering, [100])])
def test_somebody_who_has_not_noticed_may_go_on_for_a_while(
    shop: Any, log: EventLog, event: Callable[..., Any], kind: type[FileLeadership], items: list[int]
) -> None:
    """With a lock that ends with its process there is nobody to reckon with; the same event applied twice shows it."""
    user = 109 if kind is Lingering else 110
    gated = Gated(log)
    with applying(shop, gated, kind):
        wait_for(lambda: gated.reads > 2)  # turns with nothing to do
        gated.gate.clear()
        before = gated.reads
        wait_for(lambda: gated.reads > before)
        log.append([[event(93_020 + user, user, 100, T0)]])
        shop.history(tables=False).apply(log.read(log.state().applied, 10))
        gated.gate.set()
        wait_for(all_applied(log))
    assert shop.online([user])[user]["item_ids"] == items


class Crossed:
    """A log in which a materialisation ends right after the first note, and one more event is recorded."""

    def __init__(self, log: EventLog, sealed: int, later: Any) -> None:
        self._log, self._sealed, self._later, self.read_from = log, sealed, later, list[int]()
        self.crossed = False

    def advance(self, before: Any, applied: int) -> Any:
        noted = self._log.advance(before, applied)
        if noted and not self.crossed:
            self._log.materialized(self._sealed)
            self._log.append([[self._later]])
            self.crossed = True
        return noted

    def read(self, after: int, most: int) -> Any:
        if self.crossed:
            self.read_from.append(after)
        return self._log.read(after, most)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def test_a_materialisation_that_ends_right_after_a_note_is_not_missed(
    shop: Any, log: EventLog, event: Callable[..., Any]
) -> None:
    """While the store is behind: what it may have overwritten is applied again."""
    with applying(shop, log):
        pass
    sealed = log.head()
    assert log.rewind(log.state(), sealed, sealed + 10)
    log.append([[event(93_030, 111, 100, T0)]])
    crossed = Crossed(log, sealed, event(93_031, 111, 101, T0 + 1))
    with applying(shop, crossed):
        wait_for(lambda: crossed.crossed and all_applied(log)())
    assert sealed in crossed.read_from


def test_who_cannot_read_the_log_says_truly_whether_it_leads(shop: Any, log: EventLog) -> None:
    said: list[Progress] = []
    leader = FileLeadership(shop.settings.workspace.events / "test.lock")
    assert leader.held()
    gated = Gated(log)
    try:
        with applying(shop, gated, observe=said.append):
            wait_for(lambda: len(said) > 1)
            gated.failures = 2
            wait_for(lambda: not gated.failures)
            wait_for(lambda: not said[-1].behind_seconds)
    finally:
        leader.release()
    assert {progress.leads for progress in said} == {False}


def test_another_one_can_lead_though_the_last_note_failed(
    shop: Any, log: EventLog, event: Callable[..., Any], logs: Any
) -> None:
    class Full(Gated):
        def advance(self, *_: Any) -> Any:
            raise OSError("no space left on device")

    said = len(logs.entries)
    with applying(shop, Full(log)) as applier:
        log.append([[event(93_040, 112, 100, T0)]])
        applier.wake()
        wait_for(lambda: any(e["event"] == "events wait for the online store" for e in logs.entries[said:]))
    assert any(e["event"] == "not noted which events were applied" for e in logs.entries[said:])
    other = FileLeadership(shop.settings.workspace.events / "test.lock")
    assert other.held()
    other.release()
    with applying(shop, log):
        wait_for(all_applied(log))
    assert shop.online([112])[112]["item_ids"] == [100]
