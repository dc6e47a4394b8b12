"""What an event may say of an interaction: the columns of the interactions table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.features.spec import FeatureSpec

Kind = Literal["string", "int", "float", "time", "strings", "ints", "floats"]
CASES: dict[Kind, str] = {
    "string": "string_value",
    "int": "int_value",
    "float": "double_value",
    "time": "int_value",
    "strings": "string_list",
    "ints": "int_list",
    "floats": "double_list",
}
"""The case of a FeatureValue that holds a value of the kind; times are microseconds since 1970, UTC."""
OWN = {
    "user_id": "user_id",
    "item_id": "item_id",
    "event_timestamp": "timestamp_us",
    "hour": "timestamp_us",
    "weekday": "timestamp_us",
    "input_order": "the order of arrival",
}
"""Columns that come from elsewhere in the event."""
_ALWAYS: dict[str, Kind] = {"event_type": "string", "rating": "float"}
_OF_DTYPE: dict[str, Kind] = {
    "String": "string",
    "Int32": "int",
    "Int64": "int",
    "Float32": "float",
    "Float64": "float",
    "UnixTimestamp": "time",
}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns that events may have values for."""

    kinds: dict[str, Kind]
    single: frozenset[str]
    """Numbers that are kept with 32 bits."""

    @classmethod
    def of(cls, spec: FeatureSpec, interactions: Path) -> "Columns":
        """Read the columns from the imported table and, where it is not at hand, those that the history keeps.

        Raises:
            OSError: the table cannot be read.
        """
        kept = {str(f.of): f.dtype.removeprefix("Array(").removesuffix(")") for f in spec.history if f.of not in OWN}
        kinds = {**_ALWAYS, **{name: _OF_DTYPE[dtype] for name, dtype in kept.items()}}
        single = {name for name, dtype in kept.items() if dtype == "Int32"} | {"rating"}
        if interactions.exists():
            for column in pq.read_schema(interactions):
                if column.name not in OWN and (kind := _kind(column.type)):
                    kinds[column.name] = kind
                    if column.type == pa.float32():
                        single.add(column.name)
        return cls(kinds=kinds, single=frozenset(single))


def _kind(of: pa.DataType) -> Kind | None:
    if pa.types.is_list(of) or pa.types.is_large_list(of):
        element = _kind(of.value_type)
        return {"string": "strings", "int": "ints", "float": "floats"}.get(str(element))  # type: ignore[return-value]
    if pa.types.is_string(of) or pa.types.is_large_string(of):
        return "string"
    if pa.types.is_integer(of) or pa.types.is_boolean(of):
        return "int"
    if pa.types.is_floating(of):
        return "float"
    return "time" if pa.types.is_timestamp(of) else None
