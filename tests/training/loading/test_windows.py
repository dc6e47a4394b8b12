"""Every training event is the target of exactly one window."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rf_platform.dataset.dataset import Sequences, TrainingCounts
from rf_platform.errors import RunError
from rf_training.loading.order import WholeShuffle
from rf_training.loading.windows import Cut, Windows, check_training_events


def sequences(train: list[int], held_out: int = 2) -> Sequences:
    split = (
        np.concatenate([[0] * n + [1, 2][:held_out] for n in train]).astype(np.int8) if train else np.zeros(0, np.int8)
    )
    offsets = np.concatenate([[0], np.cumsum([n + held_out for n in train])]).astype(np.int64)
    empty = np.zeros(len(split), np.int32)
    return Sequences(
        offsets=offsets,
        item=empty,
        item_version=empty,
        user_version=empty,
        context=empty,
        context_numbers=np.zeros((len(split), 0), np.float32),
        timestamp=np.zeros(len(split), np.int64),
        split=split,
    )


def cut_windows(log: Sequences, history: int, overlap: float) -> Windows:
    counts = TrainingCounts.of(log.offsets, log.item, log.split, 1).of_user
    check_training_events(counts)
    return Cut(history=history, overlap=overlap).windows(np.asarray(log.offsets)[:-1], counts)


@settings(deadline=None)
@given(
    train=st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any),
    history=st.integers(1, 12),
    overlap=st.sampled_from([0.0, 0.3, 0.5, 0.9]),
)
def test_targets_are_covered_once_and_windows_stay_inside(train: list[int], history: int, overlap: float) -> None:
    data = sequences(train)
    windows = cut_windows(data, history, overlap)
    targets = np.concatenate([np.arange(a, b) for a, b in zip(windows.first_target, windows.stop, strict=True)])
    assert sorted(targets.tolist()) == np.flatnonzero(data.split == 0).tolist()
    assert (windows.inputs >= 0).all()
    assert (windows.inputs <= history).all()
    user_of = np.searchsorted(data.offsets, np.arange(len(data.split)), side="right") - 1
    begin = data.offsets[user_of[windows.first_target]]
    assert (windows.start >= begin).all()
    # A first target without a predecessor is the user's first event; any other sees the event before it.
    assert ((windows.first_target == windows.start) == (windows.first_target == begin)).all()


def test_overlap_gives_late_targets_their_history() -> None:
    windows = cut_windows(sequences([30]), 10, 0.5)
    seen = windows.first_target - windows.start
    assert seen.tolist() == [6, 6, 6, 6, 0]  # the oldest window starts with the user
    assert windows.stop.tolist() == [30, 25, 20, 15, 10]


def test_epochs_differ_and_repeat() -> None:
    windows = Windows(start=np.arange(100), first_target=np.arange(100), stop=np.arange(100) + 1)

    def order(seed: int, epoch: int) -> list[int]:
        return [int(w) for batch in WholeShuffle(windows, 8, seed).epoch(epoch) for w in batch.start]

    assert sorted(order(0, 0)) == list(range(100))
    assert order(0, 1) == order(0, 1)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_no_training_events() -> None:
    with pytest.raises(RunError, match="training split"):
        cut_windows(sequences([0, 0]), 5, 0.0)
