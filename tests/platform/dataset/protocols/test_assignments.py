"""What each protocol holds out and removes, by hand on small logs and by property on random ones."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rf_platform.dataset.protocols import (
    HISTORY,
    REMOVED,
    TEST,
    TRAIN,
    VALIDATION,
    ColdItems,
    Events,
    LeaveOneOut,
    LeaveOneOutCold,
    SplitProtocol,
    Temporal,
)
from rf_platform.dataset.protocols.cold_targets import hold_out_cold_items
from rf_platform.errors import UsageError

Users = list[list[tuple[int, int]]]
"""For every user (item, second) of each event."""


def log_of(users: Users) -> Events:
    events = [event for user in users for event in user]
    return Events(
        offsets=np.concatenate([[0], np.cumsum([len(u) for u in users])]).astype(np.int64),
        item=np.array([e[0] for e in events], np.int32),
        timestamp=np.array([e[1] for e in events], np.int64) * 1_000_000,
    )


def items_only(users: list[list[int]]) -> Events:
    return log_of([[(item, n) for n, item in enumerate(user)] for user in users])


def per_user(log: Events, split: np.ndarray) -> list[list[int]]:
    return [split[a:b].tolist() for a, b in pairwise(log.offsets)]


def random_users(least: int = 1) -> st.SearchStrategy[Users]:
    event = st.tuples(st.integers(0, 7), st.integers(0, 30))
    user = st.lists(event, min_size=least, max_size=7).map(lambda u: sorted(u, key=lambda e: e[1]))
    return st.lists(user, min_size=2, max_size=9)


def cuts(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


ANY_PROTOCOL = st.one_of(
    st.just(LeaveOneOut()),
    st.builds(LeaveOneOutCold, cold_users=st.just(1), validation_cold_users=st.just(0), seed=st.integers(0, 5)),
    st.builds(
        ColdItems,
        cold_share=st.sampled_from([0.0, 0.2, 0.5]),
        validation_cold_share=st.sampled_from([0.0, 0.2, 0.4]),
        seed=st.integers(0, 5),
    ),
    st.builds(
        Temporal,
        validation_cut=st.sampled_from([0.3, 0.5]),
        test_cut=st.sampled_from([0.7, cuts(29)]),
        new_items_only=st.booleans(),
    ),
)


@given(random_users(), ANY_PROTOCOL)
def test_training_comes_first_and_each_user_has_at_most_one_target_of_a_part(
    users: Users, protocol: SplitProtocol
) -> None:
    log = log_of(users)
    try:
        split = protocol.assign(log).split
    except UsageError:  # nobody to sample from, or all events at one moment
        return
    assert split.dtype == np.int8
    assert len(split) == len(log.item)
    for codes in per_user(log, split):
        left = [c for c in codes if c != REMOVED]
        told = [c for c in left if c in (VALIDATION, TEST)]
        assert told in ([], [VALIDATION], [TEST], [VALIDATION, TEST])
        assert left == sorted(left, key=lambda c: c != TRAIN)
        assert HISTORY not in left or left[-1] in (VALIDATION, TEST)
    assert np.array_equal(split, protocol.assign(log).split)


@given(random_users())
def test_leave_one_out_holds_out_the_last_two_of_three_or_more(users: Users) -> None:
    log = log_of(users)
    expected = [[TRAIN] * len(u) if len(u) < 3 else [TRAIN] * (len(u) - 2) + [VALIDATION, TEST] for u in users]
    assert per_user(log, LeaveOneOut().assign(log).split) == expected


def test_a_cold_item_is_left_as_a_target_alone() -> None:
    """By hand: 9 is test-cold, 8 validation-cold."""
    log = items_only(
        [
            [1, 2, 3, 4, 9],  # the target of a sampled user
            [1, 9, 2, 8, 3, 9],  # everyone whose last item is 9 is a cold case; the 9 before is gone, and the 8
            [9, 1, 2, 3, 9, 4],  # a warm target; the validation target is the last event left before it
            [1, 2, 3, 8, 4],  # a cold validation target
            [1, 9, 2],  # two events left: training only
            [2, 9, 9],  # the same, and not even the last 9 stays
            [8, 1, 2, 8],  # a cold validation item as a test target stays, and is cold
            [9, 8],
        ]
    )
    assigned = hold_out_cold_items(log, lambda *_: np.array([9]), lambda *_: np.array([8]))
    assert per_user(log, assigned.split) == [
        [0, 0, 0, 1, 2],
        [0, -1, 0, -1, 1, 2],
        [-1, 0, 0, 1, -1, 2],
        [0, 0, 0, 1, 2],
        [0, -1, 0],
        [0, -1, -1],
        [-1, 0, 1, 2],
        [-1, -1],
    ]
    assert assigned.facts == {"test_cold_items": 1, "validation_cold_items": 1}


def test_who_has_too_few_events_left_after_the_second_removal_is_for_training_only() -> None:
    log = items_only([[8, 1, 2], [8, 8, 9], [8, 1, 8]])
    assigned = hold_out_cold_items(log, lambda *_: np.array([9]), lambda *_: np.array([8]))
    assert per_user(log, assigned.split) == [[-1, 0, 0], [-1, -1, -1], [-1, 0, -1]]


@given(random_users(least=3), st.integers(0, 9), st.integers(0, 2))
def test_no_cold_item_of_the_sampled_users_is_trained_on(users: Users, seed: int, validation_users: int) -> None:
    log = log_of(users)
    protocol = LeaveOneOutCold(cold_users=1, validation_cold_users=validation_users, seed=seed)
    try:
        split = protocol.assign(log).split
    except UsageError:  # not that many others left
        return
    plain = LeaveOneOut().assign(log).split
    # One of the last items is the sampled one: it is cold, and whoever still holds something out after it keeps it.
    last = log.item[plain == TEST]
    trained = set(log.item[split == TRAIN].tolist())
    assert set(last.tolist()) - trained
    for user, codes in zip(users, per_user(log, split), strict=True):
        if TEST in codes:
            assert codes[-1] == TEST  # targets of the test part never move
            assert len([c for c in codes if c != REMOVED]) >= 3
            assert user
    cold = np.setdiff1d(log.item, log.item[split == TRAIN])
    assert not np.any(np.isin(log.item, cold) & (split == TRAIN))


def test_leave_one_out_cold_takes_the_items_of_as_many_users_as_asked() -> None:
    log = items_only([[500, 501, 502 + u % 3, 10 * u, 10 * u + 1] for u in range(20)])
    assigned = LeaveOneOutCold(cold_users=6, validation_cold_users=4, seed=3).assign(log)
    trained = np.unique(log.item[assigned.split == TRAIN])
    test, validation = log.item[assigned.split == TEST], log.item[assigned.split == VALIDATION]
    assert assigned.facts == {"test_cold_items": 6, "validation_cold_items": 4}
    assert (len(test), len(validation)) == (20, 20)
    assert trained.tolist() == [500, 501, 502, 503, 504]
    other = LeaveOneOutCold(cold_users=6, validation_cold_users=4, seed=4).assign(log)
    assert np.array_equal(other.split, assigned.split)  # items that occur once: nothing to remove, whoever is sampled


def test_leave_one_out_cold_samples_by_seed_and_different_users_for_the_two_parts() -> None:
    log = items_only([[u, 50 + u, 100 + (u + 1) % 30, 100 + u] for u in range(30)])
    assigned = LeaveOneOutCold(cold_users=15, validation_cold_users=15, seed=0).assign(log)
    assert assigned.facts["test_cold_items"] == 15
    first, second = (
        LeaveOneOutCold(cold_users=9, validation_cold_users=0, seed=seed).assign(log).split for seed in (0, 1)
    )
    assert not np.array_equal(first, second)


def test_leave_one_out_cold_needs_enough_users() -> None:
    log = items_only([[1, 2, 3], [1, 2, 4], [5, 6]])
    with pytest.raises(UsageError, match="--cold-users=3, but only 2 users have a test event; sample fewer"):
        LeaveOneOutCold(cold_users=3, validation_cold_users=0).assign(log)
    with pytest.raises(UsageError, match="--validation-cold-users=2, but only 1 other users have a validation event"):
        LeaveOneOutCold(cold_users=1, validation_cold_users=2).assign(log)


@given(random_users(least=3), st.integers(0, 9))
def test_cold_items_are_never_trained_on(users: Users, seed: int) -> None:
    log = log_of(users)
    protocol = ColdItems(cold_share=0.3, validation_cold_share=0.2, seed=seed)
    assigned = protocol.assign(log)
    items = np.unique(log.item)
    cold = assigned.facts["test_cold_items"] + assigned.facts["validation_cold_items"]
    assert cold == round(0.3 * len(items)) + round(0.2 * len(items))
    assert len(np.unique(log.item[assigned.split == TRAIN])) <= len(items) - cold


def test_another_seed_draws_other_items() -> None:
    log = items_only([[u, u + 1, u + 2, u + 3] for u in range(40)])
    splits = [ColdItems(seed=seed).assign(log).split for seed in (0, 0, 1)]
    assert np.array_equal(splits[0], splits[1])
    assert not np.array_equal(splits[0], splits[2])


def test_a_temporal_split_by_hand() -> None:
    log = log_of(
        [
            [(1, 0), (2, 1), (3, 10), (1, 11), (4, 20), (5, 21)],  # 1 at 11 is in the history of the test case
            [(1, 9), (2, 10)],  # the cut itself belongs to the part behind it
            [(3, 3), (4, 19), (4, 19)],  # of equal times the first
            [(5, 25), (1, 26)],  # a new user, with nothing before the target
            [(1, 2), (2, 3)],
        ]
    )
    protocol = Temporal(validation_cut=cuts(10), test_cut=cuts(20))
    assigned = protocol.assign(log)
    assert per_user(log, assigned.split) == [[0, 0, 1, 3, 2, -1], [0, 1], [0, 1, -1], [2, -1], [0, 0]]
    assert assigned.facts == {
        "validation_from": "1970-01-01T00:00:10+00:00",
        "test_from": "1970-01-01T00:00:20+00:00",
    }


def test_only_items_without_an_event_before_the_part_are_new() -> None:
    log = log_of(
        [
            [(1, 0), (2, 1), (3, 10), (1, 11), (4, 12), (4, 20), (5, 21), (6, 22)],  # 4 is new at 12, and known at 20
            [(1, 9), (2, 10), (1, 21)],  # no new item: all that follows the training events goes
            [(2, 3), (2, 19), (4, 19), (1, 24), (5, 25)],
        ]
    )
    split = Temporal(validation_cut=cuts(10), test_cut=cuts(20), new_items_only=True).assign(log).split
    assert per_user(log, split) == [[0, 0, 1, 3, 3, 3, 2, -1], [0, -1, -1], [0, 3, 1, 3, 2]]


def test_a_share_is_that_of_the_events_before_the_cut() -> None:
    log = log_of([[(n, n) for n in range(k, 100, 10)] for k in range(10)])
    split = Temporal(validation_cut=0.8, test_cut=0.9).assign(log).split
    assert np.count_nonzero(split == TRAIN) == 80
    assert log.timestamp[split == TRAIN].max() == 79_000_000
    assert np.count_nonzero(split == VALIDATION) == np.count_nonzero(split == TEST) == 10


@given(random_users(), st.booleans())
def test_the_future_is_never_trained_on(users: Users, new_items_only: bool) -> None:
    log = log_of(users)
    try:
        assigned = Temporal(validation_cut=0.5, test_cut=0.75, new_items_only=new_items_only).assign(log)
    except UsageError:
        return
    validation, test = (
        datetime.fromisoformat(assigned.facts[f"{part}_from"]).timestamp() * 1e6 for part in ("validation", "test")
    )
    split, moment = assigned.split, log.timestamp
    assert np.array_equal(split == TRAIN, moment < validation)
    assert np.all((moment[split == VALIDATION] >= validation) & (moment[split == VALIDATION] < test))
    assert np.all(moment[split == TEST] >= test)
    if new_items_only:
        for code, start in ((VALIDATION, validation), (TEST, test)):
            assert not np.any(np.isin(log.item[split == code], log.item[moment < start]))


@pytest.mark.parametrize(
    ("validation", "test", "message"),
    [
        (cuts(0), cuts(5), "no event lies before --validation-cut=1970-01-01T00:00:00.*nothing to train on.*00:00:09"),
        (0.6, cuts(5), "--validation-cut=0.6 .1970-01-01T00:00:06.* must lie before --test-cut=1970-01-01T00:00:05"),
        (0.01, 0.5, "no event lies before"),
    ],
)
def test_cuts_that_leave_a_part_empty(validation: float | datetime, test: float | datetime, message: str) -> None:
    log = items_only([[1] * 10])
    with pytest.raises(UsageError, match=message):
        Temporal(validation_cut=validation, test_cut=test).assign(log)


def test_parameters_are_plain_values() -> None:
    moment = datetime(1998, 1, 31, tzinfo=UTC)
    assert LeaveOneOut().to_dict() == {"name": "leave-one-out"}
    assert LeaveOneOutCold(seed=2).to_dict() == {
        "name": "leave-one-out-cold",
        "cold_users": 500,
        "validation_cold_users": 250,
        "seed": 2,
    }
    assert ColdItems().to_dict() == {
        "name": "cold-items",
        "cold_share": 0.2,
        "validation_cold_share": 0.05,
        "seed": 0,
    }
    assert Temporal(validation_cut=moment, test_cut=moment + timedelta(days=1)).to_dict() == {
        "name": "temporal",
        "validation_cut": "1998-01-31T00:00:00+00:00",
        "test_cut": "1998-02-01T00:00:00+00:00",
        "new_items_only": False,
    }
