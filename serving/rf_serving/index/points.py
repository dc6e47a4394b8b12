"""Points of a search engine: what it keeps of each item beside the vector, so that it can leave out what a filter does not pass.

An engine knows a value by its code, a number of 52 bits: sets of values are compared by codes, so one rule serves texts, numbers
and times. Two values of one code are told apart when the answer is checked, by the server, against the values themselves.

Shapes: N items.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rf_platform.features.dtype import Dtype

MISSING = 0
"""Code of an item without a value."""
MOST_FIELDS = 24
"""Features that are stored, by name: an engine's collection has at most 64 fields."""
MOST_VALUES = 4096
"""Values of one item that are stored of a list, the most that an engine takes."""
_CODE_BITS, _ID_BITS = 52, 62


def code_of(value: str | int | float) -> int:
    """Return the code of a value, equal for 1 and 1.0 and never :data:`MISSING`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return 1 + _hash(f"{type(value).__name__}:{value!r}", _CODE_BITS)


def point_id(item: int | str) -> int:
    """Return the number of an item's point: an integer id itself, a hash of a text."""
    return item if isinstance(item, int) else _hash(item, _ID_BITS)


def _hash(text: str, bits: int) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") % ((1 << bits) - 1)


@dataclass(frozen=True, kw_only=True)
class PushedField:
    """A feature that an engine filters by."""

    feature: str
    """Full name."""
    dtype: Dtype
    number: int
    """Its place, which names the engine's fields."""

    @property
    def codes(self) -> str:
        """Field with the code of the value, or an array of those of a list."""
        return f"c{self.number}"

    @property
    def value(self) -> str | None:
        """Field with the number that ``<`` and ``>`` compare; None for texts and lists."""
        if self.dtype.is_list or not (self.dtype.is_integer or self.dtype.is_float or self.dtype.is_time):
            return None
        return f"n{self.number}"

    def plain(self) -> list[str]:
        """Return it for a manifest."""
        return [self.feature, str(self.dtype)]


def pushed_fields(dtypes: Mapping[str, Dtype]) -> tuple[PushedField, ...]:
    """Return the fields for features that filters ask about: the first :data:`MOST_FIELDS` by name, and no dense vectors."""
    taken = [(name, dtype) for name, dtype in sorted(dtypes.items()) if not (dtype.is_list and dtype.single.is_float)]
    return tuple(
        PushedField(feature=name, dtype=dtype, number=number)
        for number, (name, dtype) in enumerate(taken[:MOST_FIELDS])
    )


def read_fields(written: Sequence[Sequence[str]]) -> tuple[PushedField, ...]:
    """Return what :meth:`PushedField.plain` wrote."""
    return tuple(
        PushedField(feature=feature, dtype=Dtype.of(dtype), number=number)
        for number, (feature, dtype) in enumerate(written)
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Points:
    """The items of an index, as an engine keeps them."""

    ids: Sequence[int | str]
    """[N]: of the items."""
    fields: tuple[PushedField, ...] = ()
    columns: Mapping[str, pa.Array] = field(default_factory=dict)
    """[N]: values of the features of ``fields`` as filters compare them, by full name."""
    changes_N: npt.NDArray[np.int64] | None = None
    """[N]: change of the catalog that made each item what it is; None: as the bundle was built."""

    def batches(self, vectors_ND: npt.NDArray[np.float32], rows: int) -> Iterator[list[dict[str, Any]]]:
        """Yield the points of all items, some at a time."""
        for start in range(0, len(self.ids), rows):
            some = slice(start, start + rows)
            ids = self.ids[some]
            changes = [0] * len(ids) if self.changes_N is None else self.changes_N[some].tolist()
            values: dict[str, Sequence[Any]] = {"id": [point_id(item) for item in ids], "change": changes}
            for each in self.fields:
                column = self.columns[each.feature].slice(start, len(ids))
                values[each.codes] = _codes(column)
                if each.value is not None:
                    values[each.value] = column.fill_null(0).to_pylist()
            values["vector"] = list(np.asarray(vectors_ND[some]))
            names = list(values)
            yield [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]


def _codes(column: pa.Array) -> Sequence[Any]:
    if pa.types.is_list(column.type):
        coded = iter(_codes(column.flatten()))
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_pylist()
        lists = [[next(coded) for _ in range(length)] for length in lengths]
        return [codes[:MOST_VALUES] or [MISSING] for codes in lists]
    encoded = pc.dictionary_encode(column)
    code = np.array([*map(code_of, encoded.dictionary.to_pylist()), MISSING], np.int64)  # -1 is the last
    found: list[int] = code[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)].tolist()
    return found


class PointRows:
    """Rows of an index by the numbers of their points, in an array that may be mapped from a file."""

    def __init__(self, table_2N: npt.NDArray[np.int64]) -> None:
        """``table_2N``: the numbers, rising, and the row of each."""
        self.table_2N = table_2N

    @classmethod
    def of(cls, ids: Sequence[int | str]) -> "PointRows":
        """Return the rows of items."""
        number_N = np.fromiter(map(point_id, ids), np.int64, len(ids))
        row_N = np.argsort(number_N, kind="stable")
        return cls(np.stack([number_N[row_N], row_N]))

    def find(self, numbers: npt.NDArray[np.int64], missing: int) -> npt.NDArray[np.int64]:
        """Return the rows of points, ``missing`` for a point that is no row's."""
        rising, rows = self.table_2N
        if not len(rising):
            return np.full(numbers.shape, missing, np.int64)
        place = np.minimum(rising.searchsorted(numbers), len(rising) - 1)
        return np.where(rising[place] == numbers, rows[place], missing).astype(np.int64)
