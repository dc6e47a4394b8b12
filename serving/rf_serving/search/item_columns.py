"""All features of the items of a catalog that filters can ask about, and the conditions evaluated last.

Shapes: N items.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_serving.search.columns import FeatureColumn
from rf_serving.search.condition import Condition

MASK_BYTES = 64 << 20
"""Memory limit of the kept masks of a catalog: 64 of a million items."""


class ItemColumns:
    """Evaluates conditions on items that do not change. Not safe for several threads at once."""

    def __init__(
        self,
        rows: int,
        column: Callable[[str], pa.ChunkedArray],
        dtypes: Mapping[str, str],
        marked: frozenset[str],
        mask_bytes: int = MASK_BYTES,
    ) -> None:
        """Keep where the features are; one is read when a condition first asks for it.

        Args:
            rows: number of items N.
            column: reads a feature by full name [N].
            dtypes: of the features, by full name.
            marked: features in which an empty text or the least integer is a missing value, as in encoding.
            mask_bytes: what the kept masks may take.
        """
        self._rows = rows
        self._columns = {
            name: FeatureColumn(lambda name=name: column(name), dtype, name in marked)  # type: ignore[misc]
            for name, dtype in dtypes.items()
        }
        self._masks: OrderedDict[Condition, npt.NDArray[np.bool_]] = OrderedDict()
        self._most = max(1, mask_bytes // max(1, rows))

    def passes(self, condition: Condition) -> npt.NDArray[np.bool_]:
        """Return which items pass [N], not to be written to."""
        if (mask_N := self._masks.get(condition)) is not None:
            self._masks.move_to_end(condition)
            return mask_N
        mask_N = self._columns[condition.feature].passes(condition)
        mask_N.setflags(write=False)
        self._masks[condition] = mask_N
        if len(self._masks) > self._most:
            self._masks.popitem(last=False)
        return mask_N

    def prepare_like(self, other: "ItemColumns") -> None:
        """Prepare the columns for the conditions that another catalog was asked for."""
        for name, column in self._columns.items():
            if name in other._columns:
                column.prepare_like(other._columns[name])
