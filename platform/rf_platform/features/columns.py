"""Raw columns of features: Arrow arrays of datasets and items, plain lists of requests.

A column reads its values; what becomes of them is decided once, in :mod:`rf_platform.features.encode`.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rf_platform.errors import DataError
from rf_platform.features.spec import FeatureSpec, FieldSpec
from rf_platform.features.vocabulary import Vocabulary, arrow_type, without_markers


class Column(Protocol):
    """Raw values of one feature, a row each."""

    def ids(self, vocabulary: Vocabulary) -> npt.NDArray[np.int64]:
        """Return the id of each value: 0 for one that is missing, 1 for one that is not known."""

    def numbers(self, dtype: type[np.floating]) -> npt.NDArray[Any]:
        """Return the values as numbers, NaN where missing; times in microseconds. The array is not to be written to."""

    def lists(self) -> tuple["Column", npt.NDArray[np.int32]]:
        """Return the elements of all lists, one list after the other, and the length of each; a missing list has none."""

    def texts(self) -> list[str | None]:
        """Return the values as texts, None where missing."""


class ArrowColumn:
    """Column of an Arrow table."""

    def __init__(self, values: pa.Array) -> None:
        self._values = values

    @classmethod
    def of(cls, table: pa.Table, field: FieldSpec, spec: FeatureSpec) -> "ArrowColumn":
        """Read a feature's column, by its full name; one that is not there is missing throughout.

        Raises:
            DataError: its type is none that the feature can have.
        """
        expected = _type(field, spec)
        if field.name not in table.column_names:
            return cls(pa.nulls(table.num_rows, expected))
        column = table[field.name].combine_chunks()
        try:
            # Whole numbers beyond 2^53 become the nearest float: exactness is nothing to a deviation.
            whole = field.kind == "numeric" and pa.types.is_integer(column.type)
            return cls(column.cast(expected, safe=not whole))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"{field.view}.{field.field} has values of type {column.type}; expected {expected}: {error}"
            ) from error

    def ids(self, vocabulary: Vocabulary) -> npt.NDArray[np.int64]:
        """Look all values up at once."""
        return vocabulary.encode(without_markers(self._values))

    def numbers(self, dtype: type[np.floating]) -> npt.NDArray[Any]:
        """Return the values, without a copy where they have this type and none is missing."""
        values = self._values
        if pa.types.is_timestamp(values.type):
            values = values.cast(pa.int64()).cast(pa.float64(), safe=False)
        numbers: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
        return numbers

    def lists(self) -> tuple[Column, npt.NDArray[np.int32]]:
        """Return elements and lengths; a list within a slice of a column is read where it lies."""
        lengths = pc.fill_null(pc.list_value_length(self._values), 0).to_numpy(zero_copy_only=False)
        return ArrowColumn(self._values.flatten()), lengths.astype(np.int32)

    def texts(self) -> list[str | None]:
        """Return the values."""
        texts: list[str | None] = self._values.to_pylist()
        return texts


class PlainColumn:
    """Column of plain values: texts, numbers and lists, times in microseconds since 1970 (UTC), None where missing.

    Values are looked up in dictionaries: for the short columns of requests, Arrow arrays cost more to make than to read. Methods
    raise ``TypeError``, ``ValueError``, ``OverflowError`` or an error of Arrow on values that no such feature has.
    """

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def ids(self, vocabulary: Vocabulary) -> npt.NDArray[np.int64]:
        """Look the values up one by one."""
        return vocabulary.encode_plain(self._values)

    def numbers(self, dtype: type[np.floating]) -> npt.NDArray[Any]:
        """Return the values as an array: None becomes NaN."""
        return np.array(self._values, dtype)

    def lists(self) -> tuple[Column, npt.NDArray[np.int32]]:
        """Return elements and lengths."""
        lists = [() if value is None else value for value in self._values]
        lengths = np.fromiter(map(len, lists), np.int32, len(lists))
        return PlainColumn(list(chain.from_iterable(lists))), lengths

    def texts(self) -> list[str | None]:
        """Return the values."""
        return list(self._values)


def _type(field: FieldSpec, spec: FeatureSpec) -> pa.DataType:
    match field.kind:
        case "categorical" | "multi":
            assert field.domain is not None
            value = arrow_type(spec.domain(field.domain).value_type)
            return pa.list_(value) if field.kind == "multi" else value
        case "vector":
            return pa.list_(pa.float32())
        case "timestamp":
            return pa.timestamp("us", tz="UTC")
        case "numeric":
            return pa.float64()
        case "text":
            return pa.string()
