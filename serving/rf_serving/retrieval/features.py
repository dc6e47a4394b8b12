"""What is known of whoever asks, wherever it came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_VALUE_TYPES: dict[str, pa.DataType] = {
    "String": pa.string(),
    "Int32": pa.int64(),
    "Int64": pa.int64(),
    "Bool": pa.bool_(),
    "Float32": pa.float64(),
    "Float64": pa.float64(),
    "UnixTimestamp": pa.timestamp("us", tz="UTC"),
}


@dataclass(frozen=True, kw_only=True)
class UserFeatures:
    """Profile and history of a user or a visitor, raw; a feature that is not there is missing.

    Shapes: T interactions, oldest first.
    """

    profile: Mapping[str, pa.Array] = field(default_factory=dict)
    """User features by full name, one value each."""
    rows: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """[T]: row of each item in the catalog."""
    timestamps: npt.NDArray[np.int64] | None = None
    """[T]: microseconds since 1970, UTC; None if not known."""
    context: Mapping[str, pa.Array] = field(default_factory=dict)
    """Context features by full name, [T] each."""

    @property
    def cold(self) -> bool:
        """Whether there is no history."""
        return len(self.rows) == 0


def arrow_type_of(dtype: str) -> pa.DataType:
    """Return the Arrow type that holds values of a Feast dtype, such as ``Array(String)``."""
    if dtype.startswith("Array("):
        return pa.list_(_VALUE_TYPES[element_of(dtype)])
    return _VALUE_TYPES[dtype]


def element_of(dtype: str) -> str:
    """Return the dtype of one element: ``Array(Int64)`` becomes ``Int64``."""
    return dtype.removeprefix("Array(").removesuffix(")")
