"""First events of items without training events, read from the interaction tables, and the query vectors of their users.

A protocol with cold items removes their events from the dataset: the tables still have them. Each is given with the number of
events that the dataset has of its user before it, so that the query vector is that of the moment just before the event.

Shapes: E events, N items of the catalog, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_platform.data.event_log.reading import interaction_log
from rf_platform.dataset import Dataset
from rf_platform.errors import DataError
from rf_platform.features.meanings import with_meaning
from rf_platform.features.view_rows import ID_TYPES
from rf_platform.sql import identifier
from rf_training.evaluation.sequences import Split
from rf_training.fold_in.rule import MOST_USERS


@dataclass(frozen=True, kw_only=True, eq=False)
class FirstEvents:
    """At most :data:`~rf_training.fold_in.rule.MOST_USERS` events of each cold item, each of another user, by item and order."""

    item: npt.NDArray[np.int64]
    """[E]: row of the item."""
    user: npt.NDArray[np.int64]
    """[E]: row of the user."""
    timestamp: npt.NDArray[np.int64]
    """[E]: microseconds since 1970; means nothing across users without a clock."""
    length: npt.NDArray[np.int64]
    """[E]: events of the user in the dataset before it, at least 1."""
    place: npt.NDArray[np.int64]
    """[E]: number of the event among those of its item, from 0."""
    clock: bool
    """Whether the order is that of time; else users come in random order."""

    def __len__(self) -> int:
        return len(self.item)

    def counts(self, n_items: int) -> npt.NDArray[np.int64]:
        """Return the number of events of every item [N]."""
        return np.bincount(self.item, minlength=n_items)


def read_first_events(
    dataset: Dataset, interactions: Path, parts: Sequence[Path] = (), *, clock: bool, seed: int
) -> FirstEvents:
    """Read the first wanted events of the items that training did not meet.

    With a clock they come in the order of time, and a case may be told of those before it. Without one the held-out targets are
    left out, and users come in an order drawn by ``seed``. A user counts once for an item, by the first event, and not at all
    without an event before it: nothing is known of them then.

    Args:
        dataset: a dataset version of these tables.
        interactions: the imported table.
        parts: files of the event log.
        clock: whether times are times and not positions.
        seed: of the order of users where there is no clock.

    Raises:
        DataError: the tables have no event of such an item.
    """
    item, user, timestamp = _read(dataset, interactions, parts, clock)
    length = _lengths(dataset, user, timestamp)
    if clock:
        kept = length > 0
        order = np.lexsort((user, timestamp, item))
    else:
        length = np.minimum(length, dataset.training_counts.of_user[user])
        kept = length > 0
        kept &= ~np.isin(_pairs(dataset, user, item), _targets(dataset))
        turn = np.random.default_rng(seed).permutation(len(dataset.user_ids))
        order = np.lexsort((timestamp, turn[user], item))
    order = order[kept[order]]
    _, first = np.unique(_pairs(dataset, user[order], item[order]), return_index=True)
    order = order[np.sort(first)]
    if not len(order):
        raise DataError(
            f"{interactions} has no event of an item that dataset '{dataset.name}' holds out of training; build one with "
            f"`rf dataset build --protocol cold-items`"
        )
    starts = np.flatnonzero(np.diff(item[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    chosen = order[place < MOST_USERS]
    return FirstEvents(
        item=item[chosen],
        user=user[chosen],
        timestamp=timestamp[chosen],
        length=length[chosen],
        place=place[place < MOST_USERS],
        clock=clock,
    )


def _read(
    dataset: Dataset, interactions: Path, parts: Sequence[Path], clock: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    spec = dataset.spec
    cold = np.flatnonzero(~dataset.trained_items)
    with interaction_log(interactions, parts, clock=clock) as db:
        db.register("cold", pa.table({"id": dataset.item_ids[cold], "item": cold}))
        db.register("users", pa.table({"id": dataset.user_ids, "user": np.arange(len(dataset.user_ids))}))
        item_key, user_key = (f"l.{identifier(e.join_key)}::{ID_TYPES[e.id_type]}" for e in (spec.item, spec.user))
        table = db.execute(
            f"""SELECT c.item, u."user", epoch_us(l.event_timestamp::TIMESTAMPTZ) AS ts
            FROM {with_meaning(spec.meanings, "log", "wanted")} l
            JOIN cold c ON c.id = {item_key} JOIN users u ON u.id = {user_key}
            ORDER BY u."user", l.event_timestamp, l.input_order"""
        ).to_arrow_table()
    item, user, timestamp = (table[name].to_numpy().astype(np.int64) for name in ("item", "user", "ts"))
    return item, user, timestamp


def _lengths(dataset: Dataset, user: npt.NDArray[np.int64], timestamp: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the number of events that the dataset has of each user before each time [E]."""
    offsets, times = np.asarray(dataset.sequences.offsets, np.int64), np.asarray(dataset.sequences.timestamp)
    moments, rank = np.unique(np.concatenate([times, timestamp]), return_inverse=True)
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    known = owner * len(moments) + rank[: len(times)]
    return np.searchsorted(known, user * len(moments) + rank[len(times) :]) - offsets[user]


def _targets(dataset: Dataset) -> npt.NDArray[np.int64]:
    sequences = dataset.sequences
    held = np.flatnonzero(np.isin(sequences.split, (Split.VALIDATION, Split.TEST)))
    user = np.searchsorted(np.asarray(sequences.offsets), held, side="right") - 1
    return _pairs(dataset, user, np.asarray(sequences.item[held], np.int64))


def _pairs(dataset: Dataset, user: npt.NDArray[np.int64], item: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return user * dataset.n_items + item
