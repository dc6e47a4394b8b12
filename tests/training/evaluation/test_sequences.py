import numpy as np
import pytest

from rf_platform.dataset import user_chunks
from rf_platform.errors import DataError
from rf_training.evaluation.sequences import EventSequences, check_sequences, training_items


def sequences(offsets: list[int], item: list[int], split: list[int]) -> EventSequences:
    return EventSequences(
        np.array(offsets, dtype=np.int64), np.array(item, dtype=np.int32), np.array(split, dtype=np.int8)
    )


def test_the_last_two_events_are_held_out() -> None:
    built = EventSequences.leave_one_out([[4, 5, 6, 7], [], [1, 2], [0, 3, 0]])
    assert built.offsets.tolist() == [0, 4, 4, 6, 9]
    assert built.item.tolist() == [4, 5, 6, 7, 1, 2, 0, 3, 0]
    assert built.split.tolist() == [0, 0, 1, 2, 0, 0, 0, 1, 2]
    check_sequences(built, n_items=8)


def test_training_items_leave_held_out_events_behind() -> None:
    train = training_items(EventSequences.leave_one_out([[4, 5, 6, 7], [], [1, 2], [0, 3, 0]]))
    assert train.values.tolist() == [4, 5, 1, 2, 0]
    assert train.offsets.tolist() == [0, 2, 2, 4, 5]


def test_no_events_are_fine() -> None:
    check_sequences(EventSequences.leave_one_out([]), n_items=3)
    assert len(training_items(EventSequences.leave_one_out([[], []]))) == 2


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (sequences([0, 3], [0, 1], [0, 0]), "do not fit together: 2 items, 2 split codes, offsets from .0. to .3."),
        (sequences([0, 2], [0, 1], [0]), "do not fit together: 2 items, 1 split codes"),
        (sequences([0, 2, 1, 2], [0, 1], [0, 0]), "offsets fall after user row 1"),
        (sequences([0, 2], [0, 3], [0, 0]), "Event 1 has item row 3, but the catalog has 3 items"),
        (sequences([0, 2], [-1, 1], [0, 0]), "Event 0 has item row -1"),
        (sequences([0, 2], [0, 1], [0, 4]), "Event 1 has split code 4; known are .*3 .history."),
        (sequences([0, 3], [0, 1, 2], [0, 3, 0]), r"event 1 \(history\) is followed by event 2 \(train\)"),
        (
            sequences([0, 4], [0, 1, 2, 0], [1, 3, 3, 1]),
            r"event 0 \(validation\) is followed by event 3 \(validation\)",
        ),
        (sequences([0, 3], [0, 1, 2], [2, 3, 1]), r"event 0 \(test\) is followed by event 2 \(validation\)"),
        (sequences([0, 1, 3], [0, 1, 2], [0, 1, 0]), r"User row 1: event 1 \(validation\) is followed by event 2 \(tr"),
        (sequences([0, 3], [0, 1, 2], [0, 2, 1]), r"event 1 \(test\) is followed by event 2 \(validation\)"),
        (sequences([0, 3], [0, 1, 2], [0, 2, 2]), r"event 1 \(test\) is followed by event 2 \(test\)"),
        (sequences([0, 3], [0, 1, 2], [1, 1, 2]), r"event 0 \(validation\) is followed by event 1 \(validation\)"),
    ],
)
@pytest.mark.parametrize("events", [1, 1 << 20])
def test_broken_sequences_are_refused(
    monkeypatch: pytest.MonkeyPatch, broken: EventSequences, message: str, events: int
) -> None:
    monkeypatch.setattr(user_chunks, "EVENTS_AT_ONCE", events)
    with pytest.raises(DataError, match=message):
        check_sequences(broken, n_items=3)


def test_the_order_of_splits_holds_within_users_only() -> None:
    check_sequences(sequences([0, 3, 4], [0, 1, 2, 0], [0, 1, 2, 0]), n_items=3)


def test_events_that_only_histories_know_may_lie_between_the_targets() -> None:
    mixed = sequences([0, 5, 7], [0, 1, 2, 0, 1, 2, 0], [0, 3, 1, 3, 2, 3, 2])
    check_sequences(mixed, n_items=3)
    assert training_items(mixed).values.tolist() == [0]
    assert training_items(mixed).offsets.tolist() == [0, 1, 1]
