"""When a failing store is left alone, and when it is asked again."""

import pytest

from rf_serving.breaker import Breaker, BreakerOptions


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def changes() -> list[bool]:
    return []


@pytest.fixture
def breaker(clock: Clock, changes: list[bool]) -> Breaker:
    return Breaker(BreakerOptions(failures=3, pause=1.0, longest_pause=3.0), changes.append, clock)


def test_failures_in_a_row_open_it_and_single_ones_do_not(breaker: Breaker, changes: list[bool]) -> None:
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.allows()
    for _ in range(3):
        breaker.failed()
    assert not breaker.allows()
    assert changes == [True]


def test_one_request_probes_and_its_success_closes_it(breaker: Breaker, clock: Clock, changes: list[bool]) -> None:
    for _ in range(3):
        breaker.failed()
    clock.now = 0.9
    assert not breaker.allows()
    clock.now = 1.0
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert all(breaker.allows() for _ in range(3))
    assert changes == [True, False]


def test_pauses_grow_up_to_a_limit_and_start_small_again(breaker: Breaker, clock: Clock) -> None:
    def pauses(count: int) -> list[float]:
        found = []
        for _ in range(count):
            start = clock.now
            while not breaker.allows():
                clock.now += 0.25
            found.append(clock.now - start)
            breaker.failed()
        return found

    for _ in range(3):
        breaker.failed()
    assert pauses(4) == [1.0, 2.0, 3.0, 3.0]
    clock.now += 5
    assert breaker.allows()
    breaker.succeeded()
    for _ in range(3):
        breaker.failed()
    assert pauses(1) == [1.0]


def test_a_probe_that_never_reports_does_not_keep_it_open(breaker: Breaker, clock: Clock) -> None:
    for _ in range(3):
        breaker.failed()
    clock.now = 1.0
    assert breaker.allows()
    clock.now = 2.0
    assert breaker.allows()
