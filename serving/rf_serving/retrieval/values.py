"""Feature values of a request, checked against the FeatureSpec and turned into Arrow."""

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import pyarrow as pa

from rf_platform.errors import UsageError
from rf_platform.features.spec import FieldSpec
from rf_protos.v1.retrieval_pb2 import FeatureValue
from rf_serving.retrieval.features import arrow_type_of
from rf_serving.retrieval.ids import shown

_CASES = {
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
_FLOAT32_MAX = 3.4e38


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

    def columns(self, given: Sequence[Mapping[str, FeatureValue]], paths: Sequence[str]) -> dict[str, pa.Array]:
        """Return one column per feature that any row has; a value that is not given is null.

        Args:
            given: values by full name, one mapping per row.
            paths: field path of each mapping, for messages.

        Raises:
            UsageError: a name is unknown or a value does not fit; the message begins with the field path.
        """
        columns: dict[str, list[Any]] = {}
        for row, (values, path) in enumerate(zip(given, paths, strict=True)):
            for name, value in values.items():
                column = columns.setdefault(name, [None] * len(given))
                column[row] = self._value(name, value, f'{path}["{name if len(name) <= 100 else name[:100] + "…"}"]')
        return {name: pa.array(values, self._arrow_type(name)) for name, values in columns.items()}

    def _value(self, name: str, value: FeatureValue, path: str) -> Any:
        if name not in self._dtypes:
            close = get_close_matches(name, self._dtypes, n=1)
            known = f"did you mean {close[0]}?" if close else f"known are {', '.join(self._dtypes) or 'none'}"
            raise UsageError(f"{path}: there is no such feature; {known}")
        dtype, case = self._dtypes[name], value.WhichOneof("value")
        if case is None:
            return None
        if case != _CASES[dtype]:
            raise UsageError(f"{path}: {case} is given, but the feature is {dtype}: set {_CASES[dtype]}")
        plain = getattr(value, case)
        if dtype == "Bool" and plain not in (0, 1):
            raise UsageError(f"{path}: {plain} is given for a Bool feature; 0 or 1 is meant")
        if not case.endswith("_list"):
            return _finite([plain], path)[0] if case == "double_value" else plain
        elements = list(plain.values)
        if case == "double_list":
            _finite(elements, path)
        width = self._widths.get(name)
        if width is not None and len(elements) not in (0, width):
            raise UsageError(f"{path}: {len(elements)} numbers are given, but the vector has {width}")
        return elements

    def _arrow_type(self, name: str) -> pa.DataType:
        dtype = self._dtypes[name]
        return pa.int64() if dtype == "Bool" else arrow_type_of(dtype)


def _finite(numbers: list[float], path: str) -> list[float]:
    for number in numbers:
        if not math.isfinite(number) or abs(number) > _FLOAT32_MAX:
            raise UsageError(f"{path}: {shown(number)} is not a usable number; leave out what is missing")
    return numbers
