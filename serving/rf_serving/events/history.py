"""A user's history as the online store has it, and how an event finds its place there.

The store keeps times in whole seconds, so a row cannot always tell where an event belongs: among interactions of one second
order is unknown, and a history without times has none at all. Then the row is made anew from the log.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from rf_platform.data.event_log import LoggedEvent
from rf_platform.data.event_log.event import ORDER_OFFSET
from rf_platform.features.dtype import MISSING_INTEGER, MISSING_STRING
from rf_platform.features.meanings import Meaning, meaning_of
from rf_platform.features.read import EVENT_TIME
from rf_platform.features.spec import FeatureSpec, FieldSpec

if TYPE_CHECKING:
    from feast.protos.feast.types.Value_pb2 import Value

SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class HistoryLayout:
    """Arrays of a history, and the value that an event adds to each."""

    def __init__(self, spec: FeatureSpec, *, clock: bool, single: frozenset[str]) -> None:
        """Take the definitions.

        Args:
            spec: the feature service.
            clock: whether event times are times; else hour and weekday are missing, as in the imported table.
            single: columns that the table keeps as 32-bit numbers.
        """
        self.fields, self.length = spec.history, spec.history_length
        self.views = tuple(dict.fromkeys(f.view for f in spec.history))
        self.times = next((f for f in spec.history if f.of == EVENT_TIME and f.kind == "timestamp"), None)
        self.items, self.types = spec.history_items, next((f for f in spec.history if f.of == "event_type"), None)
        self._clock, self._single, self._meanings = clock, single, spec.meanings
        self._integer_ids = {spec.user.join_key: spec.user.id_type, spec.item.join_key: spec.item.id_type}

    def meaning(self, event: LoggedEvent) -> Meaning:
        """Return what the event says about its user."""
        return meaning_of(self._meanings, event.values)

    def elements(self, event: LoggedEvent) -> dict[str, Any]:
        """Return what the event adds to each array, by the field's full name."""
        return {f.name: self._element(f, event) for f in self.fields}

    def _element(self, f: FieldSpec, event: LoggedEvent) -> Any:
        value = self._column(str(f.of), event)
        if f.type.is_time:
            return MISSING_INTEGER if value is None else value // SECOND
        if value is None:
            return f.type.single_values.missing
        if f.of in self._single and isinstance(value, float):
            return float(np.float32(value))
        return float(value) if f.type.is_float else value

    def _column(self, name: str, event: LoggedEvent) -> Any:
        if name in self._integer_ids:
            text = event.user_id if name == "user_id" else event.item_id
            return int(text) if self._integer_ids[name] == "int64" else text
        match name:
            case "event_timestamp":
                return event.timestamp_us
            case "hour" | "weekday":
                if not self._clock:
                    return None
                moment = as_time(event.timestamp_us)
                return moment.hour if name == "hour" else moment.weekday()
            case "input_order":
                return ORDER_OFFSET + event.sequence
            case _:
                return event.values.get(name)


@dataclass
class UserHistory:
    """The arrays of one user, as messages that can be changed."""

    layout: HistoryLayout
    values: "dict[str, Value]"
    """By full name; empty for a user without a row."""
    newest_us: int
    """Feature timestamp: time of the newest interaction, in some stores without the fraction of its second; 0 without a row."""
    exact: bool = False
    """Whether ``newest_us`` is exact, and everything of that moment came from the log."""
    changed: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is no interaction."""
        return not any(len(self._array(f)) for f in self.layout.fields)

    def pairs(self) -> list[tuple[int | str, str, int]]:
        """Return item and event type of each interaction, the type missing where the history does not keep it; no times."""
        layout = self.layout
        items = list(self._array(layout.items)) if layout.items else []
        types = list(self._array(layout.types)) if layout.types else []
        kinds = types if len(types) == len(items) else [MISSING_STRING] * len(items)
        return [(item, kind, 0) for item, kind in zip(items, kinds, strict=True)]

    def insert(self, event: LoggedEvent) -> bool:
        """Insert an event by time; false if the row does not determine its position, and nothing was changed."""
        layout = self.layout
        arrays = {f.name: self._array(f) for f in layout.fields}
        length = len(arrays[layout.fields[0].name])
        if any(len(array) != length for array in arrays.values()):
            return False
        place = self._place(event, length, arrays)
        if place is None:
            return False
        self._put(event, place, length, arrays)
        return True

    def approximate(self, event: LoggedEvent, *, again: bool) -> None:
        """Insert an event at its likely position, without tables to rebuild the row from.

        Args:
            event: the event.
            again: it may be there already.
        """
        layout = self.layout
        arrays = {f.name: self._array(f) for f in layout.fields}
        length = max(len(array) for array in arrays.values())
        for f in layout.fields:  # a field that was added after the row was written
            arrays[f.name].extend([f.type.single_values.missing] * (length - len(arrays[f.name])))
        if again and layout.times and layout.items:
            elements = layout.elements(event)
            key = [f.name for f in (layout.times, layout.items, layout.types) if f]
            if any(all(arrays[n][i] == elements[n] for n in key) for i in range(length)):
                return
        place = bisect_right(arrays[layout.times.name], event.timestamp_us // SECOND) if layout.times else length
        self._put(event, place, length, arrays)

    def _place(self, event: LoggedEvent, length: int, arrays: Mapping[str, Any]) -> int | None:
        newest, moment = self.newest_us, event.timestamp_us
        if length == 0 or moment // SECOND > newest // SECOND:
            return length
        if self.exact and moment >= newest:  # of one moment, the later arrival stands behind
            return length
        if self.layout.times is None:
            return None
        seconds = arrays[self.layout.times.name]
        place = bisect_left(seconds, moment // SECOND)
        if place < length and seconds[place] == moment // SECOND:
            return None
        return place

    def _put(self, event: LoggedEvent, place: int, length: int, arrays: Mapping[str, Any]) -> None:
        if place == length and (event.timestamp_us // SECOND > self.newest_us // SECOND or self.exact):
            self.newest_us, self.exact = max(self.newest_us, event.timestamp_us), True
        if place == 0 and length >= self.layout.length:
            return  # older than all that is kept
        for name, element in self.layout.elements(event).items():
            arrays[name].insert(place, element)
            del arrays[name][: max(0, length + 1 - self.layout.length)]
        self.newest_us = max(self.newest_us, event.timestamp_us)
        self.changed = True

    def _array(self, f: FieldSpec) -> Any:
        from feast.protos.feast.types.Value_pb2 import Value

        case = f"{f.type.single_values.feast}_list_val"
        value = self.values.get(f.name)
        if value is None or value.WhichOneof("val") != case:
            value = self.values[f.name] = Value()
            getattr(value, case).SetInParent()
        return getattr(value, case).val


def as_time(timestamp_us: int) -> datetime:
    """Return microseconds since 1970 as a time, UTC."""
    return _EPOCH + timedelta(microseconds=timestamp_us)


def as_microseconds(moment: datetime) -> int:
    """Return a time, UTC, as microseconds since 1970."""
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) // timedelta(microseconds=1)
