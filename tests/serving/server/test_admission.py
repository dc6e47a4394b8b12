"""The limit on calls in flight follows the queue."""

from dataclasses import dataclass

from rf_serving.server.admission import Admission


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def interval(admission: Admission, clock: Clock, waits: list[float], turned_away: int = 0) -> None:
    """A tenth of a second in which calls waited for their turn, and others were refused."""
    for _ in range(turned_away):
        admission.refused()
    for waited in waits:
        assert admission.enter()
        admission.leave(waited)
    clock.now += 0.1001
    assert admission.enter()
    admission.leave()


def test_no_more_than_the_limit_are_taken_in() -> None:
    admission = Admission(3, clock=Clock())
    assert [admission.enter() for _ in range(5)] == [True, True, True, False, False]
    assert admission.full
    admission.leave(0.0)
    assert not admission.full
    assert admission.enter()


def test_a_standing_queue_shrinks_the_limit_step_by_step_to_its_least() -> None:
    clock = Clock()
    admission = Admission(100, target_seconds=0.02, least=8, clock=clock)
    interval(admission, clock, [0.05, 0.03, 0.04])
    assert admission.limit == 80
    interval(admission, clock, [0.05])
    assert admission.limit == 64
    for _ in range(20):
        interval(admission, clock, [0.05])
    assert admission.limit == 8


def test_one_call_that_did_not_wait_proves_that_no_queue_stands() -> None:
    clock = Clock()
    admission = Admission(100, target_seconds=0.02, clock=clock)
    interval(admission, clock, [5.0, 5.0, 0.001, 5.0])
    assert admission.limit == 100


def test_the_limit_grows_again_only_while_calls_are_turned_away() -> None:
    clock = Clock()
    admission = Admission(100, target_seconds=0.02, least=8, clock=clock)
    for _ in range(20):
        interval(admission, clock, [0.05])
    interval(admission, clock, [0.001])
    assert admission.limit == 8
    interval(admission, clock, [0.001], turned_away=3)
    assert admission.limit == 8  # 8.8
    interval(admission, clock, [0.001], turned_away=3)
    assert admission.limit == 9
    for _ in range(60):
        interval(admission, clock, [0.001], turned_away=3)
    assert admission.limit == 100


def test_times_that_are_not_known_change_nothing() -> None:
    clock = Clock()
    admission = Admission(10, clock=clock)
    admission.enter()
    clock.now += 1
    admission.leave(None)
    assert admission.limit == 10


def test_busy_is_more_than_half() -> None:
    admission = Admission(4, clock=Clock())
    states = []
    for _ in range(4):
        admission.enter()
        states.append(admission.busy)
    assert states == [False, False, True, True]
