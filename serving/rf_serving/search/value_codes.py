"""Values of one feature as small numbers, by row: for rules that compare items with each other.

Shapes: N items, T rows asked for, V values of the row with most.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rf_serving.search.condition import Value

NO_VALUE = -1


class ValueCodes:
    """Codes of the values of every item: equal values have equal codes."""

    def __init__(self, column: pa.Array, base: "ValueCodes | None" = None) -> None:
        """Encode a column.

        Args:
            column: values [N], or lists of values; null and the empty list are missing.
            base: codes that values have already; those of other values follow.
        """
        if pa.types.is_list(column.type):
            lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
            column = column.flatten()
        else:
            lengths = column.is_valid().to_numpy(zero_copy_only=False).astype(np.int64)
            column = column.drop_null()
        encoded = pc.dictionary_encode(column)
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        values = encoded.dictionary.to_pylist()
        codes = encoded.indices.fill_null(NO_VALUE).to_numpy(zero_copy_only=False).astype(np.int32)
        self._code_of: dict[Value, int] = {} if base is None else dict(base._code_of)
        if base is not None:
            known = [self._code_of.setdefault(value, len(self._code_of)) for value in values]
            codes = np.array([*known, NO_VALUE], np.int32)[codes]
        else:
            self._code_of = {value: code for code, value in enumerate(values)}
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        self._codes = codes

    def of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Return the codes of some rows [T, V], :data:`NO_VALUE` behind the last one of each."""
        starts = self._starts[rows]
        lengths = self._starts[rows + 1] - starts
        most = int(lengths.max(initial=1))
        if not len(self._codes):
            return np.full((len(rows), 1), NO_VALUE, np.int32)
        places = np.arange(most)
        codes_TV: npt.NDArray[np.int32] = self._codes[np.minimum(starts[:, None] + places, len(self._codes) - 1)]
        codes_TV[places >= lengths[:, None]] = NO_VALUE
        return codes_TV
