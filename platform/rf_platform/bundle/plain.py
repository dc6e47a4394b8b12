"""Plain JSON data from what programs hold: NumPy scalars, paths, times, tuples, dataclasses."""

import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any


def to_plain(value: Any) -> Any:
    """Return ``value`` as data that every JSON parser and PostgreSQL accept.

    NaN and infinities become null: JSON has no such numbers, and a finished run must not be lost because of one metric.

    Raises:
        TypeError: a value has no JSON form.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)  # the text of a StrEnum
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(v) for v in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain(asdict(value))
    if callable(getattr(value, "tolist", None)):  # NumPy and torch, scalars and arrays
        return to_plain(value.tolist())
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be written as JSON")
