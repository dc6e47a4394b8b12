from pathlib import Path

import numpy as np
import pytest

from rf_platform.dataset import user_chunks
from rf_platform.errors import DataError, RunError
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.sequences import EventSequences, Split

USERS = [[4, 5, 6, 7], [1, 2], [0, 3, 0]]


def histories(cases: EvaluationCases) -> list[list[int]]:
    jagged = cases.histories(0, len(cases))
    return [jagged.values[start:stop].tolist() for start, stop in zip(jagged.offsets, jagged.offsets[1:], strict=False)]


def test_test_histories_include_the_validation_event() -> None:
    cases = EvaluationCases.from_sequences(EventSequences.leave_one_out(USERS), n_items=8, split=Split.TEST)
    assert cases.users.tolist() == [0, 2]
    assert cases.targets.tolist() == [7, 0]
    assert histories(cases) == [[4, 5, 6], [0, 3]]


def test_validation_histories_are_the_training_events() -> None:
    cases = EvaluationCases.from_sequences(EventSequences.leave_one_out(USERS), n_items=8, split=Split.VALIDATION)
    assert cases.users.tolist() == [0, 2]
    assert cases.targets.tolist() == [6, 3]
    assert histories(cases) == [[4, 5], [0]]


def test_histories_of_some_cases() -> None:
    cases = EvaluationCases.from_sequences(EventSequences.leave_one_out(USERS), n_items=8, split=Split.TEST)
    assert cases.histories(1, 2).values.tolist() == [0, 3]


def test_histories_cannot_reach_the_events_behind_them() -> None:
    sequences = EventSequences.leave_one_out(USERS)
    cases = EvaluationCases.from_sequences(sequences, n_items=8, split=Split.TEST)
    history = cases.histories(0, 1)
    assert not np.shares_memory(history.values, sequences.item)
    assert history.values.base is None
    assert 7 not in history.values


def test_memory_mapped_arrays_will_do(tmp_path: Path) -> None:
    sequences = EventSequences.leave_one_out(USERS)
    for name in ("offsets", "item", "split"):
        np.save(tmp_path / f"{name}.npy", getattr(sequences, name))
    mapped = EventSequences(
        *(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("offsets", "item", "split"))
    )
    cases = EvaluationCases.from_sequences(mapped, n_items=8, split=Split.TEST)
    assert histories(cases) == [[4, 5, 6], [0, 3]]


def test_repeated_targets_are_counted_by_case() -> None:
    users = [[1, 1, 2, 1], [3, 4, 5], [2, 0, 2]]
    cases = EvaluationCases.from_sequences(EventSequences.leave_one_out(users), n_items=6, split=Split.TEST)
    assert cases.repeated.sum() == 2


@pytest.mark.parametrize(
    ("sequences", "reason"),
    [
        (EventSequences.leave_one_out([]), "the dataset has no users, so its validation split is empty"),
        (EventSequences.leave_one_out([[0], [1, 2]]), "longest of 2 user sequences has 2 events"),
        (
            EventSequences(np.array([0, 4]), np.arange(4, dtype=np.int32), np.zeros(4, dtype=np.int8)),
            "no event is marked validation, although 1 of 1 users",
        ),
    ],
)
def test_an_empty_split_says_why(sequences: EventSequences, reason: str) -> None:
    with pytest.raises(RunError, match=reason):
        EvaluationCases.from_sequences(sequences, n_items=8, split=Split.VALIDATION)


def test_an_item_outside_the_catalog_is_refused() -> None:
    with pytest.raises(DataError, match="item row 7, but the catalog has 7 items"):
        EvaluationCases.from_sequences(EventSequences.leave_one_out(USERS), n_items=7, split=Split.TEST)


def test_the_training_split_has_no_targets() -> None:
    with pytest.raises(ValueError, match="the train events are no targets"):
        EvaluationCases.from_sequences(EventSequences.leave_one_out(USERS), n_items=8, split=Split.TRAIN)


def test_a_target_is_cold_where_its_item_has_no_training_event() -> None:
    sequences = EventSequences.leave_one_out([[4, 5, 6, 7], [1, 7, 6, 0], [0, 3, 0]])
    validation, test = (
        EvaluationCases.from_sequences(sequences, n_items=9, split=split) for split in (Split.VALIDATION, Split.TEST)
    )
    assert np.flatnonzero(validation.trained).tolist() == [0, 1, 4, 5, 7]
    assert validation.cold.tolist() == [True, True, True]  # 6 twice and 3
    assert test.cold.tolist() == [False, False, False]  # 7 and 0 have events in other users' training


def test_cases_of_users_with_one_target_and_of_those_with_events_that_only_histories_know() -> None:
    sequences = EventSequences(
        np.array([0, 4, 6, 7, 9]),
        np.array([1, 2, 3, 4, 5, 6, 7, 1, 2], np.int32),
        np.array([0, 3, 1, 2, 3, 2, 1, 0, 2], np.int8),
    )
    validation = EvaluationCases.from_sequences(sequences, n_items=8, split=Split.VALIDATION)
    assert (validation.users.tolist(), validation.targets.tolist()) == ([0, 2], [3, 7])
    assert histories(validation) == [[1, 2], []]
    test = EvaluationCases.from_sequences(sequences, n_items=8, split=Split.TEST)
    assert (test.users.tolist(), test.targets.tolist()) == ([0, 1, 3], [4, 6, 2])
    assert histories(test) == [[1, 2, 3], [5], [1]]
    assert test.cold.tolist() == [True, True, True]  # 2 lies in a history alone


def test_a_sample_of_the_cases_is_the_same_every_time_and_in_order() -> None:
    users = [[1, 2, user % 7, (user * 3) % 7] for user in range(50)]
    cases = EvaluationCases.from_sequences(EventSequences.leave_one_out(users), n_items=7, split=Split.TEST)
    some, again, other = (cases.sampled(20, seed) for seed in (0, 0, 1))
    assert len(some) == 20
    assert some.users.tolist() == again.users.tolist() == sorted(some.users.tolist())
    assert some.users.tolist() != other.users.tolist()
    assert some.targets.tolist() == cases.targets[some.users].tolist()
    assert histories(some) == [histories(cases)[user] for user in some.users]
    assert some.cold.tolist() == cases.cold[some.users].tolist()


def test_no_more_cases_than_asked_for_are_all_of_them() -> None:
    cases = EvaluationCases.from_sequences(EventSequences.leave_one_out(USERS), n_items=8, split=Split.TEST)
    assert cases.sampled(2, 0) is cases


@pytest.mark.parametrize("events", [1, 3, 4])
def test_cases_do_not_depend_on_how_many_users_are_looked_at_together(
    monkeypatch: pytest.MonkeyPatch, events: int
) -> None:
    sequences = EventSequences.leave_one_out([*USERS, [], [7, 1, 2, 3, 4]])
    whole = EvaluationCases.from_sequences(sequences, n_items=8, split=Split.TEST)
    monkeypatch.setattr(user_chunks, "EVENTS_AT_ONCE", events)
    cases = EvaluationCases.from_sequences(sequences, n_items=8, split=Split.TEST)
    assert cases.users.tolist() == whole.users.tolist()
    assert cases.targets.tolist() == whole.targets.tolist()
    assert cases.trained.tolist() == whole.trained.tolist()
    assert histories(cases) == histories(whole)
