"""Values of an event: the columns of the interactions table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from rf_platform.data.report import RECORD
from rf_platform.failures import read_json
from rf_platform.features.dtype import Dtype
from rf_platform.features.encode import NumericStats
from rf_platform.features.field_rule import FieldRule
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
_ALWAYS = {"event_type": Dtype("String"), "rating": Dtype("Float32")}
_SINGLE = (Dtype("Int32"), Dtype("Float32"))


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns that events may have values for."""

    dtypes: Mapping[str, Dtype]
    """Type of each column; numbers that are kept with 32 bits have a type of 32 bits."""

    bounds: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    """Least and largest value of columns, where the import knows them."""

    @property
    def single(self) -> frozenset[str]:
        """Numbers that are kept with 32 bits."""
        return frozenset(name for name, dtype in self.dtypes.items() if dtype in _SINGLE)

    @classmethod
    def of(cls, spec: FeatureSpec, interactions: Path) -> "Columns":
        """Read the columns from the imported table and, where it is not at hand, those that the history keeps.

        Raises:
            OSError: the table cannot be read.
            CorruptError: the record of the import cannot be read.
        """
        kept = {str(f.of): f.type.single for f in spec.history if f.of not in OWN}
        dtypes = {**_ALWAYS, **kept}
        if interactions.exists():
            for column in pq.read_schema(interactions):
                if (
                    column.name not in OWN
                    and (dtype := Dtype.of_arrow(column.type))
                    and (not dtype.is_list or dtype.kinds)
                ):
                    # A history may keep fewer bits than the table.
                    fewer = Dtype(dtype.element.replace("64", "32"), dtype.is_list)
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
