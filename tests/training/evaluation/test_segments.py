import numpy as np
import pytest

from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.segments import (
    history_groups,
    history_names,
    popularity_bands,
    segment_metrics,
    segments,
)
from rf_training.evaluation.sequences import EventSequences, Split


def test_bands_hold_their_shares_of_the_events() -> None:
    counts = np.array([10, 20, 0, 40, 10, 10, 10])
    # Falling counts, and the events before each item: 40 (0), 20 (40), 10 (60), 10 (70), 10 (80), 10 (90), 0.
    assert popularity_bands(counts).tolist() == [1, 1, 3, 0, 1, 2, 2]


def test_items_that_tie_are_taken_by_row() -> None:
    assert popularity_bands(np.array([1, 1, 1, 1, 1])).tolist() == [0, 1, 1, 1, 2]


def test_without_training_events_there_are_no_bands() -> None:
    assert popularity_bands(np.zeros(2, np.int64)).tolist() == [3, 3]


def test_history_groups_are_closed_above() -> None:
    names = history_names()
    groups = [names[code] for code in history_groups(np.array([2, 5, 6, 10, 11, 50, 51, 200, 201]))]
    assert groups == [
        *["new users: at most 5"] * 2,
        *["6 to 10"] * 2,
        "11 to 20",
        "21 to 50",
        *["51 to 200"] * 2,
        "more than 200",
    ]


def test_means_of_each_segment() -> None:
    ranks = {"a": np.array([1, 21, 3, 40]), "b": np.array([2, 2, 100, 20])}
    first, last = segment_metrics(np.array([0, 0, 2, 2]), ["x", "empty", "y"], ranks, seed=0, resamples=50)
    assert (first.name, first.cases, last.name, last.cases) == ("x", 2, "y", 2)
    assert first.metrics["a"]["recall@20"].value == 0.5
    assert first.metrics["b"]["recall@20"].value == 1.0
    assert last.metrics["a"]["ndcg@20"].value == pytest.approx((1 / np.log2(4) + 0) / 2)
    assert last.metrics["b"]["ndcg@20"].value == pytest.approx((0 + 1 / np.log2(21)) / 2)


def test_intervals_come_from_the_segments_own_users() -> None:
    segment = segment_metrics(np.array([0, 0, 1]), ["x", "y"], {"a": np.array([1, 99, 99])}, seed=0, resamples=200)[
        0
    ].metrics["a"]["recall@20"]
    assert (segment.low, segment.value, segment.high) == (0.0, 0.5, 1.0)


def test_every_case_is_in_one_segment_of_either_kind() -> None:
    users = [[0, 1, 2, 3], [0, 0, 1, 4], [0, 5, 6, 7, 8, 9, 1]]
    cases = EvaluationCases.from_sequences(EventSequences.leave_one_out(users), n_items=10, split=Split.TEST)
    bands = popularity_bands(np.array([4, 1, 0, 0, 0, 1, 1, 1, 1, 0]))  # 0 head; 1, 5, 6, 7 torso; 8 tail
    found = segments(bands, cases, {"a": np.array([1, 30, 2])}, seed=0, resamples=10)
    assert [(s.name, s.cases, s.metrics["a"]["recall@20"].value) for s in found.popularity] == [
        ("torso", 1, 1.0),
        ("no training event", 2, 0.5),
    ]
    assert [(s.name, s.cases) for s in found.history] == [("new users: at most 5", 2), ("6 to 10", 1)]
