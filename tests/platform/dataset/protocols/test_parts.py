"""Protocols go through a log some users at a time: the result does not depend on it, nor does memory."""

import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from rf_platform.dataset import user_chunks as module
from rf_platform.dataset.protocols import (
    ColdItems,
    Events,
    LeaveOneOut,
    LeaveOneOutCold,
    SplitProtocol,
    Temporal,
    temporal,
)
from rf_platform.dataset.protocols.temporal import time_at

PROTOCOLS: tuple[SplitProtocol, ...] = (
    LeaveOneOut(),
    LeaveOneOutCold(cold_users=20, validation_cold_users=10),
    ColdItems(),
    Temporal(),
    Temporal(
        new_items_only=True, validation_cut=datetime.fromtimestamp(500, UTC), test_cut=datetime.fromtimestamp(700, UTC)
    ),
)


def log_of(users: int, mean: float = 9.0, items: int = 300) -> Events:
    rng = np.random.default_rng(1)
    lengths = rng.geometric(1 / mean, users)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    seconds = rng.integers(0, 1000, offsets[-1])
    order = np.lexsort((seconds, np.repeat(np.arange(users), lengths)))
    return Events(
        offsets=offsets,
        item=(items * rng.random(offsets[-1]) ** 2).astype(np.int32),
        timestamp=seconds[order].astype(np.int64) * 1_000_000,
    )


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: str(p.to_dict()))
def test_parts_do_not_matter(monkeypatch: pytest.MonkeyPatch, protocol: SplitProtocol) -> None:
    log = log_of(400)
    whole = protocol.assign(log)
    for events in (1, 37, 1000):
        monkeypatch.setattr(module, "EVENTS_AT_ONCE", events)
        found = protocol.assign(log)
        assert np.array_equal(found.split, whole.split)
        assert found.facts == whole.facts


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: str(p.to_dict()))
def test_memory_is_a_few_bytes_an_event(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, protocol: SplitProtocol
) -> None:
    """A split takes one byte an event; the numbers of users or times of all of them would take eight more, each."""
    monkeypatch.setattr(module, "EVENTS_AT_ONCE", 1 << 14)
    monkeypatch.setattr(temporal, "SORTED_AT_ONCE", 1 << 14)
    made = log_of(5000, mean=200)
    for name in ("item", "timestamp"):
        np.save(tmp_path / f"{name}.npy", getattr(made, name))
    mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("item", "timestamp")}
    log = Events(offsets=made.offsets, item=mapped["item"], timestamp=mapped["timestamp"])
    protocol.assign(log_of(100))  # what is imported at first use is none of its business
    tracemalloc.start()
    try:
        protocol.assign(log)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(made.item)


@pytest.mark.parametrize("sorted_at_once", [1, 50, 10**6])
def test_the_time_of_any_position(monkeypatch: pytest.MonkeyPatch, sorted_at_once: int) -> None:
    monkeypatch.setattr(module, "EVENTS_AT_ONCE", 100)
    monkeypatch.setattr(temporal, "SORTED_AT_ONCE", sorted_at_once)
    log = log_of(60)
    log.timestamp[::7] += np.arange(len(log.timestamp[::7])) ** 3  # neither even nor all on seconds
    ordered = np.sort(log.timestamp)
    for position in (0, 1, len(ordered) // 3, len(ordered) // 2, len(ordered) - 2, len(ordered) - 1):
        assert time_at(log, position) == ordered[position]


def test_the_time_of_events_that_all_happen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporal, "SORTED_AT_ONCE", 3)
    log = Events(offsets=np.array([0, 9]), item=np.zeros(9, np.int32), timestamp=np.full(9, 5))
    assert time_at(log, 4) == 5
