"""Types of features, under Feast's names: what each is in Arrow, in SQL, in Feast's messages and in requests."""

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import pyarrow as pa

Kind = Literal["categorical", "multi", "numeric", "vector", "timestamp", "text"]
MISSING_STRING = ""
MISSING_INTEGER = -(2**31)
"""Marker of a missing value inside a history array, where Feast allows no null (floats use NaN)."""
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
_NUMBERS = ("FLOAT", "DOUBLE", *_INTEGERS)
_TIMES = ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")
_LIST = re.compile(r"Array\((.*)\)")


class Element(NamedTuple):
    """A type of single values."""

    kinds: tuple[Kind, ...]
    """Meanings that a feature of the type may have for the model, the default first."""
    of_list: Kind | None
    """Meaning of a list of such values; None: no feature is one."""
    arrow: pa.DataType
    plain: pa.DataType
    """Arrow's type of plain values: times are microseconds since 1970, truth values 0 and 1."""
    sql: str
    columns: tuple[str, ...]
    """DuckDB's types of columns that may hold such values."""
    wire: str
    """Beginning of the cases of a request's value for it: ``int`` of ``int_value`` and ``int_list``."""
    feast: str
    """Beginning of the fields of Feast's value message for it."""
    missing: Any
    """Marker of a missing value in an array of Feast."""


_CATEGORY: tuple[Kind, ...] = ("categorical", "numeric")
_I64, _F32, _F64, _TEXT, _TIME = pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.timestamp("us", tz="UTC")
ELEMENTS = {
    "String": Element(
        ("categorical", "text"), "multi", _TEXT, _TEXT, "VARCHAR", ("VARCHAR",), "string", "string", MISSING_STRING
    ),
    "Int32": Element(_CATEGORY, "multi", _I64, _I64, "BIGINT", _INTEGERS, "int", "int32", MISSING_INTEGER),
    "Int64": Element(_CATEGORY, "multi", _I64, _I64, "BIGINT", _INTEGERS, "int", "int64", MISSING_INTEGER),
    "Bool": Element(_CATEGORY, None, pa.bool_(), _I64, "BOOLEAN", ("BOOLEAN",), "int", "bool", None),
    "Float32": Element(("numeric",), "vector", _F32, _F32, "DOUBLE", _NUMBERS, "double", "float", math.nan),
    "Float64": Element(("numeric",), "vector", _F64, _F64, "DOUBLE", _NUMBERS, "double", "double", math.nan),
    "UnixTimestamp": Element(
        ("timestamp",), None, _TIME, _I64, "TIMESTAMPTZ", _TIMES, "int", "unix_timestamp", MISSING_INTEGER
    ),
}
"""All types of single values, by Feast's names."""


@dataclass(frozen=True)
class Dtype:
    """Type of a feature: of single values, or of lists of them."""

    element: str
    """Feast's name of the type of single values, one of :data:`ELEMENTS`, or another one that no model reads."""
    is_list: bool = False

    @classmethod
    @cache
    def of(cls, name: str) -> "Dtype":
        """Return the type of a name such as ``Int64`` or ``Array(String)``."""
        found = _LIST.fullmatch(name)
        return cls(found[1], is_list=True) if found else cls(name)

    @classmethod
    def of_arrow(cls, column: pa.DataType) -> "Dtype | None":
        """Return the type that holds the values of an Arrow column; None if there is none."""
        if pa.types.is_list(column) or pa.types.is_large_list(column):
            element = cls.of_arrow(column.value_type)
            return None if element is None or element.is_list else cls(element.element, is_list=True)
        if pa.types.is_string(column) or pa.types.is_large_string(column):
            return cls("String")
        if pa.types.is_integer(column) or pa.types.is_boolean(column):
            return cls("Int64")
        if pa.types.is_floating(column):
            return cls("Float32" if column == pa.float32() else "Float64")
        return cls("UnixTimestamp") if pa.types.is_timestamp(column) else None

    def __str__(self) -> str:
        return f"Array({self.element})" if self.is_list else self.element

    @property
    def single(self) -> "Dtype":
        """The type of the elements of a list, or the type itself."""
        return Dtype(self.element)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Meanings that a feature may have for the model, the default first; empty if no feature is of this type."""
        if self.element not in ELEMENTS:
            return ()
        of_list = self.single_values.of_list
        return self.single_values.kinds if not self.is_list else (of_list,) if of_list else ()

    @property
    def is_integer(self) -> bool:
        """Whether the values are whole numbers, Int32 or Int64."""
        return self.element in ("Int32", "Int64")

    @property
    def is_float(self) -> bool:
        """Whether the values are floating-point numbers."""
        return self.element in ("Float32", "Float64")

    @property
    def is_time(self) -> bool:
        """Whether the values are times."""
        return self.element == "UnixTimestamp"

    @property
    def arrow(self) -> pa.DataType:
        """Arrow's type."""
        return pa.list_(self.single_values.arrow) if self.is_list else self.single_values.arrow

    @property
    def arrow_plain(self) -> pa.DataType:
        """Arrow's type of plain values: times as microseconds since 1970, truth values as 0 and 1."""
        return pa.list_(self.single_values.plain) if self.is_list else self.single_values.plain

    @property
    def sql(self) -> str:
        """DuckDB's type, such as ``VARCHAR[]``."""
        return self.single_values.sql + ("[]" if self.is_list else "")

    @property
    def case(self) -> str:
        """Case of a request's value, such as ``int_list``."""
        return f"{self.single_values.wire}_{'list' if self.is_list else 'value'}"

    def fits(self, column_type: str) -> bool:
        """Return whether a column of this DuckDB type may hold such values."""
        base = re.sub(r"\[\d*\]$", "", column_type)  # lists, and arrays of a fixed size
        return self.is_list == (base != column_type) and base in self.single_values.columns

    @property
    def single_values(self) -> Element:
        """Facts of the single values; KeyError for a type that no model reads."""
        return ELEMENTS[self.element]


SUPPORTED = tuple(d for each in (False, True) for name in ELEMENTS if (d := Dtype(name, each)).kinds)
"""All types that features of a model may have."""
