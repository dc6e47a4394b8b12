"""Features of the items of a catalog, laid out for finding the items that pass a condition; the conditions evaluated last.

Shapes: N items, V distinct values.
"""

import operator
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from rf_platform.features.compared import compared_values
from rf_platform.features.dtype import Dtype
from rf_serving.search.condition import Clause, Condition, Operator, Value
from rf_serving.search.value_codes import ValueCodes

_COMPARE: dict[Operator, Callable[[Any, Any], npt.NDArray[np.bool_]]] = {
    Operator.LESS: operator.lt,
    Operator.AT_MOST: operator.le,
    Operator.GREATER: operator.gt,
    Operator.AT_LEAST: operator.ge,
}


class ValueRows:
    """The rows of every value: a list each, all in one array (an inverted index)."""

    def __init__(self, column: pa.Array) -> None:
        """Sort the rows by value.

        Args:
            column: values [N], or lists of values; null and the empty list are missing.
        """
        self._items = len(column)
        if pa.types.is_list(column.type):
            lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
            row_of_value = np.repeat(np.arange(self._items), lengths)
            column = column.flatten()
        else:
            row_of_value = np.arange(self._items)
        encoded = pc.dictionary_encode(column)
        code_of_value = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        known = code_of_value >= 0
        counts = np.bincount(row_of_value[known], minlength=self._items)
        by_row = csr_array(
            (np.ones(int(known.sum()), np.int8), code_of_value[known], np.concatenate([[0], np.cumsum(counts)])),
            shape=(self._items, len(encoded.dictionary)),
        )
        by_value = by_row.tocsc()
        self._rows, self._starts = by_value.indices, by_value.indptr
        self._code_of = {value: code for code, value in enumerate(encoded.dictionary.to_pylist())}

    def any_of(self, values: tuple[Value, ...]) -> npt.NDArray[np.bool_]:
        """Return which items have at least one of the values [N]."""
        passes_N = np.zeros(self._items, np.bool_)
        for value in values:
            passes_N[self._rows_of(value)] = True
        return passes_N

    def all_of(self, values: tuple[Value, ...]) -> npt.NDArray[np.bool_]:
        """Return which items have all of the values [N]."""
        passes_N = self.any_of(values[:1])
        for value in values[1:]:
            passes_N &= self.any_of((value,))
        return passes_N

    def count(self, values: tuple[Value, ...]) -> int:
        """Return how many rows have the values, one that has several as often."""
        return sum(len(self._rows_of(value)) for value in values)

    def rows_of(self, values: tuple[Value, ...]) -> npt.NDArray[np.int64]:
        """Return the rows that have at least one of the values, rising."""
        rows = [self._rows_of(value) for value in values]
        return (np.sort(rows[0]) if len(rows) == 1 else np.unique(np.concatenate(rows))).astype(np.int64)

    def _rows_of(self, value: Value) -> npt.NDArray[np.int32]:
        code = self._code_of.get(value)
        if code is None:
            return np.zeros(0, np.int32)
        found: npt.NDArray[np.int32] = self._rows[self._starts[code] : self._starts[code + 1]]
        return found


class Numbers:
    """A number of every item, in the order of the rows."""

    def __init__(self, column: pa.Array) -> None:
        self._present_N = present(column)
        self._values_N = column.fill_null(0).to_numpy(zero_copy_only=False)

    def compare(self, how: Operator, bound: Value) -> npt.NDArray[np.bool_]:
        """Return which items have a number that compares so with ``bound`` [N]."""
        passes_N = _COMPARE[how](self._values_N, bound)
        passes_N &= self._present_N
        return passes_N


class FeatureColumn:
    """One feature of the items of a catalog; each layout is made when a condition first needs it."""

    def __init__(self, read: Callable[[], pa.ChunkedArray], dtype: Dtype, markers: bool) -> None:
        """Keep how the values are read.

        Args:
            read: reads them [N].
            dtype: of the feature.
            markers: whether what stands for missing values in encoding (an empty text, the least integer) does so here.
        """
        self._read, self._dtype, self._markers = read, dtype, markers
        self._rows: ValueRows | None = None
        self._numbers: Numbers | None = None
        self._present_N: npt.NDArray[np.bool_] | None = None
        self._codes: tuple[ValueCodes | None, ValueCodes] | None = None

    def passes(self, condition: Condition) -> npt.NDArray[np.bool_]:
        """Return which items pass [N]; one without a value passes NONE_OF and ABSENT only."""
        match condition.operator:
            case Operator.ANY_OF:
                return self._value_rows().any_of(condition.values)
            case Operator.NONE_OF:
                return ~self._value_rows().any_of(condition.values)
            case Operator.ALL_OF:
                return self._value_rows().all_of(condition.values)
            case Operator.PRESENT:
                return self._present().copy()
            case Operator.ABSENT:
                return ~self._present()
            case _:
                if self._numbers is None:
                    self._numbers = Numbers(self._column())
                return self._numbers.compare(condition.operator, condition.values[0])

    def count(self, condition: Condition) -> int | None:
        """Return the most rows that pass a condition that names values; None for another kind."""
        match condition.operator:
            case Operator.ANY_OF:
                return self._value_rows().count(condition.values)
            case Operator.ALL_OF:
                return min(self._value_rows().count((value,)) for value in condition.values)
            case _:
                return None

    def rows(self, condition: Condition) -> npt.NDArray[np.int64]:
        """Return the rows that pass a condition that names values, rising."""
        values = self._value_rows()
        if condition.operator is Operator.ANY_OF:
            return values.rows_of(condition.values)
        rising = sorted((values.rows_of((value,)) for value in condition.values), key=len)
        rows = rising[0]
        for others in rising[1:]:
            rows = rows[are_among(rows, others)]
        return rows

    def codes(self, base: ValueCodes | None = None) -> ValueCodes:
        """Return the codes of the values; those that ``base`` has keep theirs."""
        if self._codes is None or self._codes[0] is not base:
            self._codes = base, ValueCodes(self._column(), base)
        return self._codes[1]

    def prepare_like(self, other: "FeatureColumn") -> None:
        """Make the layouts that another column has been asked for."""
        if other._codes is not None:
            self.codes()
        if other._rows is not None:
            self._value_rows()
        if other._numbers is not None:
            self._numbers = Numbers(self._column())
        if other._present_N is not None:
            self._present()

    def _value_rows(self) -> ValueRows:
        if self._rows is None:
            self._rows = ValueRows(self._column())
        return self._rows

    def _present(self) -> npt.NDArray[np.bool_]:
        if self._present_N is None:
            self._present_N = present(self._column())
        return self._present_N

    def _column(self) -> pa.Array:
        """Return the values as they are compared, null where they are missing."""
        return compared_values(self._read(), self._dtype, markers=self._markers)


def are_among(rows: npt.NDArray[np.int64], rising: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which rows are among some distinct ones, given in order: ``np.isin`` takes ten times as long for so few."""
    if not len(rising):
        return np.zeros(len(rows), np.bool_)
    found: npt.NDArray[np.bool_] = rising[np.minimum(rising.searchsorted(rows), len(rising) - 1)] == rows
    return found


def present(column: pa.Array) -> npt.NDArray[np.bool_]:
    """Return which rows of a column have a value, and a list of at least one [N]."""
    if pa.types.is_list(column.type):
        lengths: npt.NDArray[Any] = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        return lengths > 0
    valid: npt.NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    return valid


MASK_BYTES = 64 << 20
"""Memory limit of the kept masks of a catalog: 64 of a million items."""


FEW = 1 / 8
"""Share of the rows up to which a list of them costs less than a mask of all."""
LOOKED_UP = 4096
"""Most rows that are looked up in another list: for more a mask is made."""


class ItemColumns:
    """Evaluates conditions on items that do not change. Not safe for several threads at once."""

    def __init__(
        self,
        rows: int,
        column: Callable[[str], pa.ChunkedArray],
        dtypes: Mapping[str, Dtype],
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
        self._masks: OrderedDict[Clause, npt.NDArray[np.bool_]] = OrderedDict()
        self._most = max(1, mask_bytes // max(1, rows))

    def passes(self, condition: Clause) -> npt.NDArray[np.bool_]:
        """Return which items pass [N], not to be written to."""
        if (mask_N := self._masks.get(condition)) is not None:
            self._masks.move_to_end(condition)
            return mask_N
        if isinstance(condition, Condition):
            mask_N = self._columns[condition.feature].passes(condition)
        else:
            join = np.logical_or if condition.any else np.logical_and
            mask_N = join.reduce([self.passes(part) for part in condition.parts])
            if condition.negated:
                np.logical_not(mask_N, out=mask_N)
        mask_N.setflags(write=False)
        self._masks[condition] = mask_N
        if len(self._masks) > self._most:
            self._masks.popitem(last=False)
        return mask_N

    def codes(self, feature: str, base: "ItemColumns | None" = None) -> ValueCodes:
        """Return the codes of a feature's values; see :meth:`FeatureColumn.codes`."""
        return self._columns[feature].codes(None if base is None else base.codes(feature))

    def all_pass(self, conditions: Iterable[Clause]) -> npt.NDArray[np.bool_]:
        """Return which items pass all of one or more conditions [N], not to be written to."""
        first, *others = conditions
        mask_N = self.passes(first)
        for condition in others:
            mask_N = mask_N & self.passes(condition)
        return mask_N

    def few(self, conditions: Collection[Clause]) -> npt.NDArray[np.int64] | None:
        """Return the rows that pass all conditions, rising, where a list of values leaves few; None where none does.

        No mask is made of a condition that has none yet: rows of other lists are looked up among those of the shortest.
        """
        counts = {each: self._columns[each.feature].count(each) for each in conditions if isinstance(each, Condition)}
        least, shortest = min(
            ((count, each) for each, count in counts.items() if count is not None),
            key=lambda pair: pair[0],
            default=(self._rows + 1, None),
        )
        if shortest is None or least > FEW * self._rows:
            return None
        rows = self._columns[shortest.feature].rows(shortest)
        for each, count in counts.items():
            if each == shortest:
                continue
            if each in self._masks or count is None or len(rows) > LOOKED_UP:
                rows = rows[self.passes(each)[rows]]
            else:
                rows = rows[are_among(rows, self._columns[each.feature].rows(each))]
        for combined in conditions:
            if not isinstance(combined, Condition):
                rows = rows[self.passes(combined)[rows]]
        return rows

    def prepare_like(self, other: "ItemColumns") -> None:
        """Prepare the columns for the conditions that another catalog was asked for."""
        for name, column in self._columns.items():
            if name in other._columns:
                column.prepare_like(other._columns[name])
