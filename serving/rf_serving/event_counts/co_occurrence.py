"""Items that the same users took: counted among the latest items of each user.

Shapes: U users, I items, W items kept of a user, L users kept of an item.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from rf_serving.event_counts.numbering import Key, Numbering

ITEMS_OF_USER = 32
"""W: the latest items of a user that count as taken together."""
USERS_OF_ITEM = 256
"""L: the latest users of an item that are looked at; of an item with more, a sample."""
SHRINKAGE = 20.0
"""Added to the denominator of the cosine, against chance: as the baseline ``item-knn`` has it."""
_GROWTH = 1024
T = TypeVar("T", np.int32, np.int64)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Distinct pairs of user and item [P] of the interactions so far."""

    users: Sequence[str]
    items: Sequence[Key]
    rank_of_item: npt.NDArray[np.int64]
    """Rank of the item among those of the user, by the last interaction; the latest one has 1."""
    rank_of_user: npt.NDArray[np.int64]
    """Rank of the user among those of the item."""


class CoOccurrence:
    """Shrunk cosine of the users of two items, ``|U_i ∩ U_j| / (sqrt(|U_i| |U_j|) + 20)``.

    ``U_i`` are the users that have item i among their latest :data:`ITEMS_OF_USER` items; of these the latest
    :data:`USERS_OF_ITEM` are looked at, and what they have in common with j is scaled up. One thread adds, others may ask: an
    answer in between may lack an event that is being added.
    """

    def __init__(self) -> None:
        self._items: Numbering = Numbering()
        self._users: Numbering = Numbering()
        self._items_UW = np.zeros((0, ITEMS_OF_USER), np.int32)
        """Number of the item plus 1, the latest one last; 0: none."""
        self._users_IL = np.zeros((0, USERS_OF_ITEM), np.int32)
        """Number of the user plus 1, the latest one last; 0: none."""
        self._count_I = np.zeros(0, np.int64)
        """|U_i|."""

    def add(self, pairs: Iterable[tuple[str, Key]]) -> None:
        """Add interactions in their order: pairs of user and item."""
        for user, item in pairs:
            (u,), (i,) = self._users.numbers([user]).tolist(), self._items.numbers([item]).tolist()
            self._make_room()
            row_W = self._items_UW[u]
            before = row_W[0]
            if _move_to_end(row_W, i + 1):
                self._count_I[i] += 1
                if before:
                    self._count_I[before - 1] -= 1
            _move_to_end(self._users_IL[i], u + 1)

    def fill(self, pairs: Pairs) -> None:
        """Take what earlier interactions come to; nothing was added so far."""
        users, items = self._users.numbers(pairs.users), self._items.numbers(pairs.items)
        self._make_room()
        latest = pairs.rank_of_item <= ITEMS_OF_USER
        self._items_UW[users[latest], ITEMS_OF_USER - pairs.rank_of_item[latest]] = items[latest] + 1
        self._count_I += np.bincount(items[latest], minlength=len(self._count_I))
        latest = pairs.rank_of_user <= USERS_OF_ITEM
        self._users_IL[items[latest], USERS_OF_ITEM - pairs.rank_of_user[latest]] = users[latest] + 1

    def like(self, items: Sequence[Key]) -> tuple[list[Key], npt.NDArray[np.float64]]:
        """Return the items that go with any of some, with the mean of their likenesses to all of these; unordered."""
        total: dict[int, float] = {}
        for item in items:
            number = self._items.get(item)
            if number is None or number >= len(self._count_I):
                continue
            for other, likeness in zip(*self._like(number), strict=True):
                total[other] = total.get(other, 0.0) + likeness
        ids = self._items.ids
        return [ids[other] for other in total], np.fromiter(total.values(), np.float64, len(total)) / max(1, len(items))

    def _like(self, item: int) -> tuple[list[int], list[float]]:
        users = self._users_IL[item]
        windows_LW = self._items_UW[users[users > 0] - 1]
        windows_LW = windows_LW[(windows_LW == item + 1).any(axis=1)]  # of some the item has left the window since
        if not len(windows_LW):
            return [], []
        others, common = np.unique(windows_LW[windows_LW > 0] - 1, return_counts=True)
        kept = others != item
        others, common = others[kept], common[kept]
        own, theirs = max(len(windows_LW), int(self._count_I[item])), np.maximum(self._count_I[others], 1)
        likeness = common * (own / len(windows_LW)) / (np.sqrt(own * theirs) + SHRINKAGE)
        return others.tolist(), np.minimum(likeness, 1.0).tolist()

    def _make_room(self) -> None:
        if len(self._users) > len(self._items_UW):
            self._items_UW = _grown(self._items_UW, len(self._users))
        if len(self._items) > len(self._users_IL):
            self._users_IL = _grown(self._users_IL, len(self._items))
            self._count_I = _grown(self._count_I, len(self._items))


def _move_to_end(row: npt.NDArray[np.int32], value: int) -> bool:
    """Put a value last, from where it stands or in place of the first; return whether it is new."""
    (found,) = np.nonzero(row == value)
    place = int(found[0]) if len(found) else 0
    row[place:-1] = row[place + 1 :]
    row[-1] = value
    return not len(found)


def _grown(table: npt.NDArray[T], rows: int) -> npt.NDArray[T]:
    larger = np.zeros((rows + max(_GROWTH, rows // 4), *table.shape[1:]), table.dtype)
    larger[: len(table)] = table
    return larger
