"""Passes over a log some users at a time."""

from pathlib import Path

import numpy as np
import pytest

from rf_platform.dataset import user_chunks as module
from rf_platform.dataset.array_file import ArrayFile, data_bytes
from rf_platform.dataset.dataset import TrainingCounts
from rf_platform.dataset.user_chunks import prefetch, release, user_chunks


@pytest.mark.parametrize("events", [1, 2, 3, 7, 100])
def test_every_user_is_in_one_chunk_with_all_events(monkeypatch: pytest.MonkeyPatch, events: int) -> None:
    monkeypatch.setattr(module, "EVENTS_AT_ONCE", events)
    offsets = np.array([0, 2, 2, 5, 9, 9, 10, 10])
    chunks = list(user_chunks(offsets))
    assert [u for c in chunks for u in range(c.users.start, c.users.stop)] == list(range(7))
    assert [e for c in chunks for e in range(c.events.start, c.events.stop)] == list(range(10))
    for c in chunks:
        assert (c.events.start, c.events.stop) == (offsets[c.users.start], offsets[c.users.stop])
        assert c.events.stop - c.events.start <= events or c.users.stop - c.users.start == 1


def test_no_users_no_chunks() -> None:
    assert list(user_chunks(np.zeros(1, np.int64))) == []


@pytest.mark.parametrize("events", [3, 50, 10**6])
def test_training_counts_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch, events: int) -> None:
    monkeypatch.setattr(module, "EVENTS_AT_ONCE", events)
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 9, 40)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    item, user = rng.integers(0, 20, lengths.sum()).astype(np.int32), np.repeat(np.arange(40), lengths)
    split = (rng.random(len(item)) < 0.3).astype(np.int8)
    counts = TrainingCounts.of(offsets, item, split, 25)
    assert counts.of_item.tolist() == np.bincount(item[split == 0], minlength=25).tolist()
    assert counts.of_user.tolist() == np.bincount(user[split == 0], minlength=40).tolist()


@pytest.mark.parametrize("shape", [(1000,), (1000, 3), (1000, 0), (0,)])
def test_an_array_file_is_what_numpy_writes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    with ArrayFile(tmp_path / "parts.npy", np.float32, shape) as file:
        for start in range(0, len(array), 300):
            file.write(array[start : start + 300].astype(np.float64))
    np.save(tmp_path / "whole.npy", array)
    assert (tmp_path / "parts.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert b"".join(data_bytes(tmp_path / "parts.npy")) == array.tobytes()


def test_an_array_file_that_lacks_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="2 of 3 rows"), ArrayFile(tmp_path / "a.npy", np.int64, (3,)) as file:
        file.write(np.arange(2))


def resident(path: Path) -> int:
    """Bytes of a mapped file that are resident in this process."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.endswith(str(path)):
            inside = True
        elif inside and line.startswith("Rss:"):
            found, inside = found + int(line.split()[1]) * 1024, False
    return found


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="resident pages are counted by Linux")
def test_released_pages_are_given_back_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    np.save(path, np.arange(1_000_000))
    array = np.load(path, mmap_mode="r")
    prefetch(array, slice(1000, 2000))
    assert array.sum() == 499_999_500_000
    assert resident(path) >= array.nbytes
    release(array[5:10], np.zeros(3))
    assert resident(path) < array.nbytes / 10
    assert array[-1] == 999_999


def test_rows_at_either_end_can_be_read_ahead(tmp_path: Path) -> None:
    for shape in ((5000, 3), (5000, 0)):
        np.save(tmp_path / "array.npy", np.ones(shape))
        array = np.load(tmp_path / "array.npy", mmap_mode="r")
        for rows in (slice(0, 10), slice(4990, 5000), slice(0, 5000), slice(7, 7)):
            prefetch(array, rows)
