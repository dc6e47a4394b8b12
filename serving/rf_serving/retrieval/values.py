"""Feature values of a request, checked against the FeatureSpec."""

import math
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from rf_platform.errors import UsageError
from rf_platform.features.spec import FieldSpec
from rf_protos.v1.features_pb2 import FeatureValue
from rf_serving.retrieval.ids import shown

VALUE_CASES = {
    "String": "string_value",
    "Int32": "int_value",
    "Int64": "int_value",
    "Bool": "int_value",
    "Float32": "double_value",
    "Float64": "double_value",
    "UnixTimestamp": "int_value",
    "Array(String)": "string_list",
    "Array(Int32)": "int_list",
    "Array(Int64)": "int_list",
    "Array(Float32)": "double_list",
    "Array(Float64)": "double_list",
}
"""Which case of a value fits which dtype."""
WHOLE = {"double_value": "int_value", "double_list": "int_list"}
"""Cases that are taken as well where numbers are meant: JSON and many a client's language do not tell 5 from 5.0."""
_FLOAT32_MAX = 3.4e38
_SHOWN_NAME = 100


class ValueReader:
    """Reads the values of one side's features.

    Args:
        fields: dtype of every feature that may be given, by full name.
        widths: width of the dense vectors among them.
    """

    def __init__(self, fields: Mapping[str, str], widths: Mapping[str, int]) -> None:
        self._dtypes, self._widths = dict(fields), dict(widths)

    @classmethod
    def of(cls, fields: Sequence[FieldSpec], widths: Mapping[str, int]) -> "ValueReader":
        """Return a reader of whole features, such as a profile's."""
        return cls({f.name: f.dtype for f in fields}, {f.name: widths[f.name] for f in fields if f.kind == "vector"})

    def values(self, given: Mapping[str, FeatureValue], path: str) -> dict[str, Any]:
        """Return plain values by full name: a text, a number or a list, None where none is set.

        Args:
            given: values by full name.
            path: field path of the mapping, for messages.

        Raises:
            UsageError: a name is unknown or a value does not fit; the message begins with the field path.
        """
        return {name: self._value(name, value, path) for name, value in given.items()}

    def columns(self, given: Sequence[Mapping[str, FeatureValue]], path: str) -> dict[str, list[Any]]:
        """Return one column per feature that any row has, with None where a value is not given.

        Args:
            given: values by full name, one mapping per row.
            path: field path of a row's mapping, with ``{}`` for the row's number.

        Raises:
            UsageError: as :meth:`values`.
        """
        columns: dict[str, list[Any]] = {}
        for row, values in enumerate(given):
            for name, value in values.items():
                if name not in columns:
                    columns[name] = [None] * len(given)
                columns[name][row] = self._value(name, value, path, row)
        return columns

    def _value(self, name: str, value: FeatureValue, path: str, row: int = 0) -> Any:
        try:
            return plain_value(value, self._dtype(name), self._widths.get(name))
        except UnfitError as error:
            named = name if len(name) <= _SHOWN_NAME else name[:_SHOWN_NAME] + "…"
            raise UsageError(f'{path.format(row)}["{named}"]: {error}') from None

    def _dtype(self, name: str) -> str:
        if name not in self._dtypes:
            raise UnfitError(f"there is no such feature; {suggestion(name, self._dtypes)}")
        return self._dtypes[name]


class UnfitError(ValueError):
    """A value does not fit its feature; the message lacks the field path, which the caller knows."""


def suggestion(name: str, known: Collection[str]) -> str:
    """Return what may have been meant by a name that is not known."""
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known) or 'none'}"


def plain_value(value: FeatureValue, dtype: str, width: int | None = None) -> Any:
    """Return a text, a number or a list, or None if no value is set.

    Args:
        value: what was given.
        dtype: of the feature.
        width: of the feature, if it is a dense vector.

    Raises:
        UnfitError: the value is of another type, not finite, or a vector of another width.
    """
    case, fits = value.WhichOneof("value"), VALUE_CASES[dtype]
    if case is None:
        return None
    if case not in (fits, WHOLE.get(fits)):
        raise UnfitError(f"{case} is given, but the feature is {dtype}: set {fits}")
    plain = getattr(value, case)
    if dtype == "Bool" and plain not in (0, 1):
        raise UnfitError(f"{plain} is given for a Bool feature; 0 or 1 is meant")
    if fits == "double_value":
        return finite([float(plain)])[0]
    if not case.endswith("_list"):
        return plain
    elements = list(plain.values)
    if fits == "double_list":
        elements = finite([float(element) for element in elements])
    if width is not None and len(elements) not in (0, width):
        raise UnfitError(f"{len(elements)} numbers are given, but the vector has {width}")
    return elements


def finite(numbers: list[float]) -> list[float]:
    """Return the numbers.

    Raises:
        UnfitError: one is not finite, or too large for float32.
    """
    for number in numbers:
        if not math.isfinite(number) or abs(number) > _FLOAT32_MAX:
            raise UnfitError(f"{shown(number)} is not a usable number; leave out what is missing")
    return numbers
