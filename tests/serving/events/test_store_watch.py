"""The watch over the store, with a store that is brought back to any earlier state at any step."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from rf_platform.data.event_log import Event, EventLog, EventParts, LogState, StoreFault, load_number
from rf_platform.features.store_marks import AppliedMark, LoadMark, LogView, Marks, Standing, compare
from rf_platform.settings import Settings
from rf_serving.events.store_watch import StoreWatch, Verdict


@dataclass(frozen=True)
class Kept:
    """What a store has."""

    rows: frozenset[int] = frozenset()
    """Numbers of the events that are in its histories."""
    load: LoadMark | None = None
    slots: tuple[AppliedMark | None, AppliedMark | None] = (None, None)

    @property
    def marks(self) -> Marks:
        return Marks(self.load, tuple(sorted((s for s in self.slots if s is not None), key=lambda mark: mark.number)))


@dataclass
class Store:
    """A store in memory with the calls of an OnlineHistory that the watch makes."""

    has: Kept = field(default_factory=Kept)

    def marks(self) -> Marks:
        return self.has.marks

    def create_marks(self) -> None: ...

    def mark_load(self, mark: LoadMark) -> None:
        self.has = replace(self.has, load=mark)

    def mark_applied(self, *marks: AppliedMark) -> None:
        slots = list(self.has.slots)
        for mark in marks:
            slots[mark.number % 2] = mark
        self.has = replace(self.has, slots=(slots[0], slots[1]))

    def add(self, numbers: set[int]) -> None:
        self.has = replace(self.has, rows=self.has.rows | numbers)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    log = EventLog.open(Settings(home=tmp_path))
    yield log
    log.close()


def event(number: int) -> Event:
    return Event(event_id=f"e{number}", user_id="1", item_id="2", timestamp_us=10**15 + number)


class EventConsumer:
    """What the applier does with the watch, step by step, with something happening between the steps."""

    def __init__(self, log: EventLog, store: Store, tmp_path: Path, between: Any) -> None:
        self.losses: list[StoreFault] = []
        self._log, self._store, self._between = log, store, between
        self._watch = StoreWatch(log, EventParts(tmp_path / "none"), lambda: True, None, self.losses.append)
        self._read()

    def _read(self) -> None:
        self._state = self._log.state()
        self._position = self._state.applied
        self._watch.forget()

    def step(self, *, note: bool) -> bool:
        """Whether all is applied."""
        store: Any = self._store
        match self._watch.check(store, self._state, self._position):
            case Verdict.BEGIN_ANEW:
                self._read()
                return False
            case Verdict.WAIT:
                return False
        known = self._store.has.marks
        self._between(None)
        events = self._log.read(self._position, 3)
        if events:
            self._store.add({each.sequence for each in events})
            self._between(known)
            self._watch.applied(store, events[-1])
            self._between(None)
            self._position = events[-1].sequence
        if note and self._position > self._state.applied:
            assert self._log.advance(self._state, self._position)
            self._state = self._log.state()
        return not events


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_restored_at_whatever_moment_all_events_are_there_in_the_end(
    log: EventLog, tmp_path: Path, seed: int
) -> None:
    """Only a copy that was made since the last mark, restored before the next one, cannot be told from no copy."""
    rng = Random(seed)
    store = Store()
    copies: list[Kept] = []
    restored = 0

    def between(unmarked: Marks | None) -> None:
        nonlocal restored
        if quiet:
            return
        if rng.random() < 0.3:
            copies.append(store.has)
        if copies and rng.random() < 0.1:
            copy = rng.choice(copies)
            if copy.marks != unmarked:
                restored += copy.rows != store.has.rows
                store.has = copy

    quiet = True
    applier = EventConsumer(log, store, tmp_path, between)
    while not applier.step(note=True):
        pass  # the store gets its first marks
    quiet, recorded = False, 0
    for _ in range(40):
        for _ in range(rng.randrange(4)):
            log.append([[event(recorded)]])
            recorded += 1
        applier.step(note=rng.random() < 0.5)
        if rng.random() < 0.05:  # it dies, and another one takes over
            applier = EventConsumer(log, store, tmp_path, between)
    quiet = True
    for _ in range(2 * recorded + 50):
        if applier.step(note=True) and log.state().applied == log.head():
            break
    assert store.has.rows == set(range(1, recorded + 1))
    assert log.state().fault is StoreFault.NONE
    assert restored
    assert store.has.marks.unbroken
    assert store.has.marks.position == recorded


E1, E2, OTHER = (1 << 31) + 5, (2 << 31) + 5, (2 << 31) + 6
FEW = (AppliedMark(E1, 7, 40, 1), AppliedMark(E1, 8, 50, 9))


@pytest.mark.parametrize(
    ("load", "applied", "state", "head", "event_there", "expected"),
    [
        (None, (), {"epoch": 0}, 0, None, (Standing.UNMARKED, 50)),
        (None, FEW, {}, 60, None, (Standing.UNLOADED, 0)),
        (LoadMark(3, E1, 30), FEW, {}, 60, 9, (Standing.CURRENT, 50)),
        (LoadMark(3, E1, 30), FEW, {}, 60, None, (Standing.CURRENT, 50)),
        (LoadMark(3, E1, 30), FEW, {"applied": 55}, 60, 9, (Standing.BEHIND, 50)),
        (LoadMark(3, E1, 30), (), {"applied": 50}, 60, None, (Standing.BEHIND, 30)),
        # A mark beside one that is not its predecessor, or of an earlier load: as far as the load says.
        (LoadMark(3, E1, 30), (FEW[0], AppliedMark(E1, 12, 55, 0)), {}, 60, None, (Standing.BEHIND, 30)),
        (LoadMark(3, E2, 45), FEW, {"epoch": E2, "applied": 45}, 60, None, (Standing.CURRENT, 45)),
        (LoadMark(3, E1, 30), FEW, {"epoch": E2}, 60, 9, (Standing.UNLOADED, 50)),
        (LoadMark(3, E2, 45), FEW, {"pending": E2}, 60, None, (Standing.FINISHING, 45)),
        (LoadMark(3, E2, 45), FEW, {}, 60, None, (Standing.FOREIGN, 45)),
        (LoadMark(3, OTHER, 45), FEW, {"epoch": E2}, 60, None, (Standing.FOREIGN, 45)),
        (LoadMark(4, E1, 30), FEW, {}, 60, 9, (Standing.FOREIGN, 50)),
        (LoadMark(3, E1, 30), FEW, {"applied": 20}, 49, None, (Standing.FOREIGN, 50)),
        (LoadMark(3, E1, 30), FEW, {"applied": 20}, 60, 8, (Standing.FOREIGN, 50)),
    ],
)
def test_each_standing(
    load: LoadMark | None,
    applied: tuple[AppliedMark, ...],
    state: dict[str, int],
    head: int,
    event_there: int | None,
    expected: tuple[Standing, int],
) -> None:
    given: dict[str, Any] = {"applied": 50, "replay_until": 0, "reset": 1, "log": 3, "epoch": E1, **state}
    compared = compare(Marks(load, applied), LogView(state=LogState(**given), head=head, event=event_there))
    assert (compared.standing, compared.position) == expected
    right = (Standing.CURRENT, Standing.FINISHING, Standing.UNMARKED)
    assert bool(compared.detail) == (compared.standing not in right)


def test_a_store_that_is_loaded_again_while_it_was_behind_is_behind(log: EventLog, tmp_path: Path) -> None:
    """An earlier load was restored and then the right copy: events that it lost before are missing as they were."""
    log.append([[event(n) for n in range(10)]])
    told: list[StoreFault] = []
    watch = StoreWatch(log, EventParts(tmp_path / "none"), lambda: True, None, told.append)
    epoch = log.loading(0)
    log.materialized(0, epoch)
    assert log.advance(log.state(), 10)
    store: Any = Store(Kept(load=LoadMark(log.state().log, epoch, 0), slots=(AppliedMark(epoch, 2, 4, 0), None)))
    store.mark_applied(AppliedMark(epoch, 3, 6, 0))

    def look() -> StoreFault:
        for _ in range(3):
            if watch.check(store, log.state(), log.state().applied) is not Verdict.BEGIN_ANEW:
                break
            watch.forget()
        return log.state().fault

    assert (look(), log.state().applied) == (StoreFault.BEHIND, 6)
    copy, store.has = store.has, Kept()
    assert look() is StoreFault.UNLOADED
    store.has = copy
    assert look() is StoreFault.BEHIND
    assert log.advance(log.state(), 9)
    assert log.state().fault is StoreFault.BEHIND
    assert log.advance(log.state(), 10)
    assert log.state().fault is StoreFault.NONE
    store.has = Kept()
    assert look() is StoreFault.UNLOADED
    store.has = copy
    store.mark_applied(AppliedMark(epoch, 4, 10, 0), AppliedMark(epoch, 5, 10, 0))
    assert look() is StoreFault.NONE


def test_epochs_rise_and_differ(log: EventLog) -> None:
    epochs = []
    for _ in range(5):
        epochs.append(log.loading(0))
        log.materialized(0, epochs[-1])
    assert [load_number(epoch) for epoch in epochs] == [1, 2, 3, 4, 5]
    assert len({epoch & (1 << 31) - 1 for epoch in epochs}) > 1
    failed = log.loading(0)
    log.materialized(0)
    assert log.state().epoch == epochs[-1] != failed
