"""Values of an event: the columns of the interactions table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.data.report import RECORD
from rf_platform.failures import read_json
from rf_platform.features.encode import NumericStats
from rf_platform.features.field_rule import FieldRule, element_of
from rf_platform.features.spec import FeatureSpec

OWN = {
    "user_id": "user_id",
    "item_id": "item_id",
    "event_timestamp": "timestamp_us",
    "hour": "timestamp_us",
    "weekday": "timestamp_us",
    "input_order": "the order of arrival",
}
"""Columns that come from elsewhere in the event."""
_REMEDY = "import again with --replace"
_ALWAYS = {"event_type": "String", "rating": "Float32"}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns that events may have values for."""

    dtypes: Mapping[str, str]
    """Feast's name of each column's type; numbers that are kept with 32 bits have a type of 32 bits."""

    bounds: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    """Least and largest value of columns, where the import knows them."""

    @property
    def single(self) -> frozenset[str]:
        """Numbers that are kept with 32 bits."""
        return frozenset(name for name, dtype in self.dtypes.items() if dtype in ("Int32", "Float32"))

    @classmethod
    def of(cls, spec: FeatureSpec, interactions: Path) -> "Columns":
        """Read the columns from the imported table and, where it is not at hand, those that the history keeps.

        Raises:
            OSError: the table cannot be read.
            CorruptError: the record of the import cannot be read.
        """
        kept = {str(f.of): element_of(f.dtype) for f in spec.history if f.of not in OWN}
        dtypes = {**_ALWAYS, **kept}
        if interactions.exists():
            for column in pq.read_schema(interactions):
                if column.name not in OWN and (dtype := _dtype(column.type)):
                    # A history may keep fewer bits than the table.
                    fewer = dtype.replace("64", "32")
                    dtypes[column.name] = fewer if dtypes.get(column.name) == fewer else dtype
        return cls(dtypes=dtypes, bounds=_bounds(interactions.with_name(RECORD)))

    def rule(self, name: str, numeric: NumericStats | None) -> FieldRule:
        """Return the rule of a column's values; ``numeric``: of the model that answers, where they are numbers to it."""
        least, most = self.bounds.get(name, (None, None))
        return FieldRule(dtype=self.dtypes[name], numeric=numeric, least=least, most=most)


def _bounds(record: Path) -> dict[str, tuple[float | None, float | None]]:
    if not record.exists():
        return {}
    return {name: (least, most) for name, (least, most) in read_json(record, _REMEDY).get("bounds", {}).items()}


def _dtype(of: pa.DataType) -> str | None:
    if pa.types.is_list(of) or pa.types.is_large_list(of):
        element = _dtype(of.value_type)
        return f"Array({element})" if element in ("String", "Int64", "Float32", "Float64") else None
    if pa.types.is_string(of) or pa.types.is_large_string(of):
        return "String"
    if pa.types.is_integer(of) or pa.types.is_boolean(of):
        return "Int64"
    if pa.types.is_floating(of):
        return "Float32" if of == pa.float32() else "Float64"
    return "UnixTimestamp" if pa.types.is_timestamp(of) else None
