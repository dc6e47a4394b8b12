"""Numbers of ids in the order in which they come up, for arrays about them."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Key = int | str


class Numbering:
    """Ids numbered from 0; a number stays what it is."""

    def __init__(self) -> None:
        self.ids: list[Key] = []
        """Id of each number; only ever appended to."""
        self._numbers: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def get(self, key: Key) -> int | None:
        """Return the number of an id; None if it has none."""
        return self._numbers.get(key)

    def numbers(self, keys: Iterable[Key]) -> npt.NDArray[np.int64]:
        """Return the number of each id; a new id gets the next one."""
        known, ids = self._numbers, self.ids
        found = []
        for key in keys:
            number = known.setdefault(key, len(ids))
            if number == len(ids):
                ids.append(key)
            found.append(number)
        return np.array(found, np.int64)
