"""From an event of a request to one of the log, or to the reason why it is refused.

The columns of the interactions table decide which values an event may have.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rf_platform.data.event_log import Event, EventWindow
from rf_platform.data.event_log.event import ANSWER
from rf_platform.data.report import RECORD
from rf_platform.errors import UsageError
from rf_platform.failures import read_json
from rf_platform.features.dtype import Dtype
from rf_platform.features.encode import NumericStats
from rf_platform.features.field_rule import FieldRule, UnfitError
from rf_platform.features.meanings import DEFAULT_TYPE, EVENT_TYPE
from rf_platform.features.spec import FeatureSpec
from rf_platform.literals import PLAIN, Writing
from rf_platform.text import shown
from rf_protos.v1 import feedback_pb2
from rf_serving.wire.ids import parse_id
from rf_serving.wire.values import checked_value, suggestion, value_path

OWN = {
    "user_id": "user_id",
    "item_id": "item_id",
    "event_timestamp": "timestamp_us",
    "hour": "timestamp_us",
    "weekday": "timestamp_us",
    "input_order": "the order of arrival",
    ANSWER: "request_id",
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
    writing: Mapping[str, Writing] = field(default_factory=dict)
    """Form of the values of columns as text, where the import says it."""
    types: tuple[str, ...] = ()
    """Types of the imported events, where the import says them."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Names that types got by the import's mapping, by those in the files."""

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
        record = interactions.with_name(RECORD)
        report = read_json(record, _REMEDY) if record.exists() else {}
        return cls(
            dtypes=dtypes,
            bounds={name: (least, most) for name, (least, most) in report.get("bounds", {}).items()},
            writing=_writing(report.get("writing", {})),
            types=tuple(report.get("event_types", ())),
            renamed=report.get("renamed_types", {}),
        )

    def rule(self, name: str, numeric: NumericStats | None) -> FieldRule:
        """Return the rule of a column's values; ``numeric``: of the model that answers, where they are numbers to it."""
        least, most = self.bounds.get(name, (None, None))
        return FieldRule(
            dtype=self.dtypes[name],
            numeric=numeric,
            least=least,
            most=most,
            writing=self.writing.get(name, PLAIN),
        )


def _writing(said: Mapping[str, Mapping[str, str]]) -> dict[str, Writing]:
    return {
        name.removeprefix("interactions."): Writing.of_tags(tags, name)
        for name, tags in said.items()
        if name.startswith("interactions.")
    }


_LONGEST_EVENT_ID = 128
_LONGEST_TEXT = 1000
_UNKNOWN: Mapping[str, NumericStats] = {}


class EventReader:
    """Checks events against the types of ids and the columns of the interactions table, as an import would."""

    def __init__(self, spec: FeatureSpec, columns: Columns, window: EventWindow) -> None:
        """Take what is known.

        Args:
            spec: has the types of ids.
            columns: what events may say.
            window: of plausible times.
        """
        self._spec, self._columns, self._window = spec, columns, window

    def read(self, event: feedback_pb2.Event, numeric: Mapping[str, NumericStats] = _UNKNOWN) -> Event:
        """Return the event as it is recorded.

        Args:
            event: of a request.
            numeric: mean and deviation of the columns that are numbers to the model that answers; they bound what is usual.

        Raises:
            UsageError: it is wrong; the message begins with the field.
        """
        if not event.event_id:
            raise UsageError("event_id: must not be empty; it is what makes repeating a call safe")
        if len(event.event_id) > _LONGEST_EVENT_ID:
            raise UsageError(
                f"event_id: {len(event.event_id)} characters are given, at most {_LONGEST_EVENT_ID} are possible"
            )
        if len(event.request_id) > _LONGEST_EVENT_ID:
            raise UsageError(
                f"request_id: {len(event.request_id)} characters are given, at most {_LONGEST_EVENT_ID} are possible"
            )
        for name in ("event_id", "user_id", "item_id", "request_id"):
            _check_text(getattr(event, name), name)
        if problem := self._window.problem(event.timestamp_us):
            raise UsageError(f"timestamp_us: {problem}")
        return Event(
            event_id=event.event_id,
            user_id=str(parse_id(event.user_id, self._spec.user.id_type, "user_id")),
            item_id=str(parse_id(event.item_id, self._spec.item.id_type, "item_id")),
            timestamp_us=event.timestamp_us,
            values=self._values(event, numeric),
        )

    def doubt(self, event: Event) -> str:
        """Return a note on an event that is recorded and may not mean what it says; empty for most."""
        given, known = str(event.values.get(EVENT_TYPE)), self._columns.types
        if not known or given in (*known, DEFAULT_TYPE):
            return ""
        new = self._columns.renamed.get(given)
        meant = suggestion(given, known) if new is None else f"the import names it {new!r}; record it so"
        return f'values["event_type"]: {shown(given)} is no type of the imported interactions; {meant}'

    def _values(self, event: feedback_pb2.Event, numeric: Mapping[str, NumericStats]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name in sorted(event.values):
            value = checked_value(lambda name: self._rule(name, numeric.get(name)), name, event.values[name], "values")
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    _check_text(text, value_path("values", name))
            if value is not None:
                values[name] = value
        values.setdefault(EVENT_TYPE, DEFAULT_TYPE)  # as in an import
        if event.request_id:
            values[ANSWER] = event.request_id
        return values

    def _rule(self, name: str, numeric: NumericStats | None) -> FieldRule:
        if name in OWN:
            raise UnfitError(f"this column comes from {OWN[name]}; leave it out")
        if name not in self._columns.dtypes:
            raise UnfitError(f"the interactions have no such column; {suggestion(name, sorted(self._columns.dtypes))}")
        return self._columns.rule(name, numeric)


def _check_text(text: str, field: str) -> None:
    if len(text) > _LONGEST_TEXT:
        raise UsageError(f"{field}: {len(text)} characters are given, at most {_LONGEST_TEXT} are possible")
    if "\x00" in text:
        raise UsageError(f"{field}: {shown(text)} contains a null character")
