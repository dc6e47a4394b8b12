"""Places among the calls in flight, shared by the connections that want them."""

from rf_serving.server.admission import Admission
from rf_serving.server.native_calls import FairShare


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def share_of(limit: int) -> tuple[FairShare, Admission, Clock]:
    clock = Clock()
    admission = Admission(limit, clock=clock)
    return FairShare(admission, clock), admission, clock


def leave(share: FairShare, who: str) -> None:
    share.admission.leave()
    share.leave(who)


def test_one_connection_may_have_every_place() -> None:
    share, admission, _ = share_of(8)
    assert [share.enter("a") for _ in range(10)] == [True] * 8 + [False] * 2
    assert admission.active == 8
    leave(share, "a")
    assert share.enter("a")


def test_places_that_become_free_go_to_those_that_have_less_than_their_share() -> None:
    share, admission, clock = share_of(8)
    for _ in range(8):
        assert share.enter("greedy")
    clock.now += 0.02
    assert not share.enter("modest")
    for held in range(4):
        leave(share, "greedy")
        clock.now += 0.02
        assert not share.enter("greedy"), f"{held} places of the other one"
        assert share.enter("modest")
        assert not share.enter("modest") or held == 3
    assert admission.active == 8


def test_nobody_waits_for_one_that_has_gone() -> None:
    share, _, clock = share_of(4)
    for _ in range(4):
        assert share.enter("greedy")
    clock.now += 0.02
    assert not share.enter("gone")
    leave(share, "greedy")
    assert not share.enter("greedy")
    clock.now += 0.2
    assert share.enter("greedy")


def test_every_connection_has_one_place_at_least() -> None:
    share, admission, clock = share_of(2)
    for who in "abcdef":
        share.enter(who)
        clock.now += 0.02
    assert admission.active == 2
    leave(share, "a")
    assert share.enter("f")
    assert not share.enter("b")
