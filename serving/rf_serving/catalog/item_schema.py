"""An item's features and display fields in all their forms: protobuf in requests, JSON in the journal, Arrow beside the vectors.

In between they are plain values by full name: texts, numbers and lists, times in microseconds since 1970 (UTC). What is missing
is left out, empty lists and NaN included, and Float32 values are those that float32 can hold: equal items have equal values.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np
import pyarrow as pa

from rf_platform.features.spec import FeatureSpec
from rf_platform.features.vocabulary import arrow_type
from rf_protos.v1.features_pb2 import DoubleList, FeatureValue, Int64List, StringList
from rf_serving.retrieval.values import VALUE_CASES, ValueReader

Values = dict[str, Any]

_ARROW = {
    "String": pa.string(),
    "Int32": pa.int64(),
    "Int64": pa.int64(),
    "Bool": pa.bool_(),
    "Float32": pa.float32(),
    "Float64": pa.float64(),
    "UnixTimestamp": pa.timestamp("us", tz="UTC"),
}
_PYTHON: dict[str, type | tuple[type, ...]] = {
    "String": str,
    "Int32": int,
    "Int64": int,
    "Bool": int,
    "Float32": (int, float),
    "Float64": (int, float),
    "UnixTimestamp": int,
}
_LISTS = {"string_list": StringList, "int_list": Int64List, "double_list": DoubleList}


class ItemSchema:
    """The fields an item may have by a FeatureSpec: all that a bundle carries but labels."""

    def __init__(self, spec: FeatureSpec, widths: Mapping[str, int]) -> None:
        """``widths``: of the dense vectors among them, by full name."""
        fields = [f for f in spec.carried("item") if f.role != "label"]
        self.key = spec.item.join_key
        self._dtypes = {f.name: f.dtype for f in fields}
        self._widths = {f.name: widths[f.name] for f in fields if f.kind == "vector"}
        self._reader = ValueReader(self._dtypes, self._widths)
        columns = [pa.field(name, _arrow(dtype)) for name, dtype in self._dtypes.items()]
        self.arrow = pa.schema([pa.field(self.key, arrow_type(spec.item.id_type)), *columns])
        """Of tables: the id and all fields."""

    @property
    def names(self) -> list[str]:
        """Full names of all fields."""
        return list(self._dtypes)

    def read(self, given: Mapping[str, FeatureValue], path: str) -> Values:
        """Return the values of a request.

        Raises:
            UsageError: a name is unknown or a value does not fit; the message begins with the field path.
        """
        return self._canonical(self._reader.values(given, path))

    def text(self, values: Values) -> str:
        """Return the values as canonical JSON."""
        return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def parse(self, text: str) -> Values:
        """Return the values of JSON from the journal, as far as this spec knows them: another one may have been served then."""
        values = {name: value for name, value in json.loads(text).items() if self._fits(name, value)}
        return self._canonical(values)

    def message(self, values: Values) -> dict[str, FeatureValue]:
        """Return the values for a reply."""
        return {name: _message(VALUE_CASES[self._dtypes[name]], value) for name, value in values.items()}

    def table(self, ids: Sequence[int | str], rows: Sequence[Values]) -> pa.Table:
        """Return items as a table of :attr:`arrow`."""
        columns = [
            pa.array([self._plain(name, row.get(name)) for row in rows], self.arrow.field(name).type)
            for name in self._dtypes
        ]
        return pa.table([pa.array(ids, self.arrow.field(self.key).type), *columns], schema=self.arrow)

    def cast(self, table: pa.Table) -> pa.Table:
        """Return a table of :attr:`arrow` from one that may lack columns or hold them in other types."""
        rows = table.num_rows
        columns = [
            table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(rows, field.type)
            for field in self.arrow
        ]
        return pa.table(columns, schema=self.arrow)

    def rows(self, table: pa.Table) -> list[Values]:
        """Return the values of a table of :attr:`arrow`, row by row."""
        columns = {}
        for name, dtype in self._dtypes.items():
            column = table[name].cast(pa.int64()) if dtype == "UnixTimestamp" else table[name]
            columns[name] = column.to_pylist()
        return [self._canonical({name: columns[name][i] for name in columns}) for i in range(table.num_rows)]

    def _canonical(self, values: Values) -> Values:
        kept = {name: _canonical(value, self._dtypes[name]) for name, value in values.items()}
        return {name: value for name, value in kept.items() if value is not None}

    def _plain(self, name: str, value: Any) -> Any:
        return bool(value) if value is not None and self._dtypes[name] == "Bool" else value

    def _fits(self, name: str, value: Any) -> bool:
        dtype = self._dtypes.get(name)
        if dtype is None:
            return False
        kind = _PYTHON[dtype.removeprefix("Array(").removesuffix(")")]
        if not dtype.startswith("Array("):
            return isinstance(value, kind)
        width = self._widths.get(name)
        return isinstance(value, list) and all(isinstance(v, kind) for v in value) and width in (None, len(value))


def _arrow(dtype: str) -> pa.DataType:
    return pa.list_(_ARROW[dtype[6:-1]]) if dtype.startswith("Array(") else _ARROW[dtype]


def _canonical(value: Any, dtype: str) -> Any:
    """Return a value as equal items have it, or None if it is missing."""
    if isinstance(value, list):
        elements = [_canonical(v, dtype[6:-1]) for v in value] if dtype != "Array(Float32)" else _float32(value)
        return [v for v in elements if v is not None] or None
    if value is None or (isinstance(value, float) and isnan(value)):
        return None
    if dtype == "Float32":
        return float(np.float32(value))
    if dtype == "Float64":
        return float(value)
    return int(value) if dtype == "Bool" else value


def _float32(values: Iterable[Any]) -> list[Any]:
    numbers = np.array([np.nan if v is None else v for v in values], np.float32)
    return [None if isnan(v) else v for v in numbers.tolist()]


def _message(case: str, value: Any) -> FeatureValue:
    if case in _LISTS:
        return FeatureValue(**{case: _LISTS[case](values=value)})
    return FeatureValue(**{case: value})
