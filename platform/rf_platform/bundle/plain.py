"""Plain JSON data from what programs hold: NumPy scalars, paths, times, tuples, dataclasses."""

from typing import Any

from pydantic_core import to_jsonable_python


def to_plain(value: Any) -> Any:
    """Return ``value`` as data that every JSON parser and PostgreSQL accept.

    NaN and infinities become null: JSON has no such numbers, and a finished run must not be lost because of one metric. Sets have
    no order of their own and become lists in whichever order they are in.

    Raises:
        TypeError: a value has no JSON form.
    """
    return to_jsonable_python(value, inf_nan_mode="null", fallback=_of_array)


def _of_array(value: Any) -> Any:
    """Return the numbers of NumPy's and torch's scalars and arrays."""
    if callable(getattr(value, "tolist", None)):
        return value.tolist()
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be written as JSON")
