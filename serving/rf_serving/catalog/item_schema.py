"""An item's features and display fields in all their forms: protobuf in requests, JSON in the journal, Arrow beside the vectors.

In between they are plain values by full name: texts, numbers and lists, times in microseconds since 1970 (UTC). What is missing
is left out, empty lists and NaN included, and Float32 values are those that float32 can hold: equal items have equal values.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_platform.features.dtype import SUPPORTED, Dtype
from rf_platform.features.encode import FeatureEncoder, NumericStats
from rf_platform.features.field_rule import UnfitError, rules_of
from rf_platform.features.spec import FeatureSpec
from rf_platform.features.vocabulary import arrow_type
from rf_platform.registry.journal import canonical_json
from rf_platform.text import trimmed
from rf_protos.v1.features_pb2 import FeatureValue
from rf_serving.wire.values import ValueReader, message_value

Values = dict[str, Any]


class Parsed(NamedTuple):
    """Features of an item as read from the journal."""

    values: Values
    """As far as they fit."""
    unfit: list[str]
    """Fields with values that do not."""
    unsaid: set[str]
    """Fields that came after it was recorded."""


class ItemSchema:
    """The fields an item may have by a FeatureSpec: all that a bundle carries but labels, and display fields of other types."""

    def __init__(
        self, spec: FeatureSpec, widths: Mapping[str, int], numeric: Mapping[str, NumericStats] | None = None
    ) -> None:
        """Take the fields.

        Args:
            spec: has them.
            widths: of the dense vectors among them, by full name.
            numeric: mean and deviation of the numbers among them, which bound what is taken in.
        """
        fields = [f for f in spec.carried("item") if f.role != "label" and f.type in SUPPORTED]
        self.key = spec.item.join_key
        self._dtypes = {f.name: f.type for f in fields}
        self._rules = rules_of(fields, widths, numeric or {})
        self._reader = ValueReader(self._rules)
        self.display = [f.name for f in fields if f.role == "display"]
        """Full names of the fields that are made for people."""
        self.recommendable = next((f.name for f in fields if f.role == "recommendable"), None)
        """The field that says which items are offered; None where all are."""
        columns = [pa.field(name, dtype.arrow) for name, dtype in self._dtypes.items()]
        self.arrow = pa.schema([pa.field(self.key, arrow_type(spec.item.id_type)), *columns])
        """Of tables: the id and all fields."""

    @classmethod
    def of(cls, encoder: FeatureEncoder) -> "ItemSchema":
        """Return the fields that a model's items may have."""
        return cls(encoder.spec, encoder.widths, encoder.numeric)

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
        """Return the values as canonical JSON, what is missing as null: of other fields the text says nothing."""
        return canonical_json({**dict.fromkeys(self._dtypes), **values})

    def parse(self, text: str) -> "Parsed":
        """Return what JSON from the journal says of an item.

        Another spec or another model may have been served when it was recorded. What this spec does not know is passed over.
        """
        said: dict[str, Any] = json.loads(text)
        values: Values = {}
        unfit: list[str] = []
        for name, value in said.items():
            if (rule := self._rules.get(name)) is None:
                continue
            try:
                values[name] = rule.of(value)
            except UnfitError:
                unfit.append(name)
        return Parsed(self._canonical(values), unfit, self._dtypes.keys() - said.keys())

    def message(self, values: Values) -> dict[str, FeatureValue]:
        """Return the values for a reply."""
        return {name: message_value(self._dtypes[name].case, value) for name, value in values.items()}

    def table(self, ids: Sequence[int | str], rows: Sequence[Values]) -> pa.Table:
        """Return items as a table of :attr:`arrow`."""
        columns = [
            pa.array([self._plain(name, row.get(name)) for row in rows], self.arrow.field(name).type)
            for name in self._dtypes
        ]
        return pa.table([pa.array(ids, self.arrow.field(self.key).type), *columns], schema=self.arrow)

    def offered(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Return which items of a table of :attr:`arrow` are offered: all that do not say 0."""
        if self.recommendable is None:
            return np.ones(table.num_rows, np.bool_)
        said = table[self.recommendable].cast(pa.int64()).fill_null(1).to_numpy()
        offered: npt.NDArray[np.bool_] = said != 0
        return offered

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
            column = table[name].cast(dtype.arrow_plain) if dtype.is_time else table[name]
            columns[name] = column.to_pylist()
        return [self._canonical({name: columns[name][i] for name in columns}) for i in range(table.num_rows)]

    def _canonical(self, values: Values) -> Values:
        kept = {name: _canonical(value, self._dtypes[name]) for name, value in values.items()}
        return {name: value for name, value in kept.items() if value is not None}

    def _plain(self, name: str, value: Any) -> Any:
        return bool(value) if value is not None and self._dtypes[name].element == "Bool" else value


def _canonical(value: Any, dtype: Dtype) -> Any:
    """Return a value as equal items have it, or None if it is missing."""
    if isinstance(value, list):
        elements = _float32(value) if dtype.element == "Float32" else [_canonical(v, dtype.single) for v in value]
        return [v for v in elements if v is not None] or None
    if value is None or (isinstance(value, float) and not isfinite(value)):
        return None
    match dtype.element:
        case "Float32":
            return float(np.float32(value))
        case "Float64":
            return float(value)
        case "Bool":
            return int(value)
        case "String":
            return trimmed(value) or None
    return value


def _float32(values: Iterable[Any]) -> list[Any]:
    numbers = np.array([np.nan if v is None else v for v in values], np.float32)
    return [v if isfinite(v) else None for v in numbers.tolist()]
