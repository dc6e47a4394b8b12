"""From an event of a request to one of the log, or to the reason why it is refused."""

import math
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from time import time
from typing import Any

import numpy as np

from rf_platform.data.event_log import Event
from rf_platform.errors import UsageError
from rf_platform.features.spec import FeatureSpec
from rf_protos.v1 import feedback_pb2
from rf_protos.v1.features_pb2 import FeatureValue
from rf_serving.events.columns import CASES, OWN, Columns
from rf_serving.retrieval.ids import parse_id, shown
from rf_serving.retrieval.values import WHOLE

SKEW_SECONDS = 60.0
"""How far a caller's clock may run ahead."""
DEFAULT_TYPE = "interaction"
"""Type of an event that has none, as in an import."""
_LONGEST_EVENT_ID = 128
_LONGEST_TEXT = 1000
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_INT32 = range(-(2**31), 2**31)


class EventReader:
    """Checks events against the types of ids and the columns of the interactions table, as an import would."""

    def __init__(self, spec: FeatureSpec, columns: Columns, clock: Callable[[], float] = time) -> None:
        """Take what is known.

        Args:
            spec: has the types of ids.
            columns: what events may say.
            clock: seconds since 1970.
        """
        self._spec, self._columns, self._clock = spec, columns, clock

    def read(self, event: feedback_pb2.Event) -> Event:
        """Return the event as it is recorded.

        Raises:
            UsageError: it is wrong; the message begins with the field.
        """
        if not event.event_id:
            raise UsageError("event_id: must not be empty; it is what makes repeating a call safe")
        if len(event.event_id) > _LONGEST_EVENT_ID:
            raise UsageError(
                f"event_id: {len(event.event_id)} characters are given, at most {_LONGEST_EVENT_ID} are possible"
            )
        for field in ("event_id", "user_id", "item_id"):
            _check_text(getattr(event, field), field)
        parse_id(event.user_id, self._spec.user.id_type, "user_id")
        parse_id(event.item_id, self._spec.item.id_type, "item_id")
        return Event(
            event_id=event.event_id,
            user_id=event.user_id,
            item_id=event.item_id,
            timestamp_us=self._time(event.timestamp_us),
            values=self._values(event),
        )

    def _time(self, timestamp_us: int) -> int:
        if timestamp_us <= 0:
            raise UsageError(f"timestamp_us: {timestamp_us} is no time of an event; give microseconds since 1970, UTC")
        ahead = timestamp_us / 1e6 - self._clock()
        if ahead > SKEW_SECONDS:
            raise UsageError(
                f"timestamp_us: {timestamp_us} lies {ahead:.0f} s in the future; microseconds since 1970, UTC, are meant, "
                f"and clocks may be {SKEW_SECONDS:g} s ahead"
            )
        return timestamp_us

    def _values(self, event: feedback_pb2.Event) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name in sorted(event.values):
            path = f'values["{name if len(name) <= 100 else name[:100] + "…"}"]'
            if (value := self._value(name, event.values[name], path)) is not None:
                values[name] = value
        values.setdefault("event_type", DEFAULT_TYPE)
        return values

    def _value(self, name: str, value: FeatureValue, path: str) -> Any:
        if name in OWN:
            raise UsageError(f"{path}: this column comes from {OWN[name]}; leave it out")
        kind = self._columns.kinds.get(name)
        if kind is None:
            close = get_close_matches(name, self._columns.kinds, n=1)
            known = f"did you mean {close[0]}?" if close else f"it has {', '.join(sorted(self._columns.kinds))}"
            raise UsageError(f"{path}: the interactions have no such column; {known}")
        case = value.WhichOneof("value")
        if case is None:
            return None
        fits = CASES[kind]
        if case not in (fits, WHOLE.get(fits)):
            raise UsageError(f"{path}: {case} is given, but the column holds a {kind}: set {fits}")
        given = getattr(value, case)
        read = [self._plain(name, float(each) if fits in WHOLE else each, path) for each in _several(given)]
        return (read or None) if case.endswith("_list") else read[0]

    def _plain(self, name: str, value: Any, path: str) -> Any:
        if isinstance(value, str):
            _check_text(value, path)
            return value.strip() or None
        if name in self._columns.single:
            if isinstance(value, int) and value not in _INT32:
                raise UsageError(f"{path}: {value} does not fit into 32 bits, which is what the history keeps")
            if isinstance(value, float) and abs(value) > _FLOAT32_MAX:
                raise UsageError(f"{path}: {shown(value)} is not a usable number; leave out what is missing")
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{path}: {shown(value)} is not a usable number; leave out what is missing")
        return value


def _several(given: Any) -> Iterable[Any]:
    """Return the values of a list, or the one there is."""
    values: Iterable[Any] = getattr(given, "values", [given])
    return values


def _check_text(text: str, field: str) -> None:
    if len(text) > _LONGEST_TEXT:
        raise UsageError(f"{field}: {len(text)} characters are given, at most {_LONGEST_TEXT} are possible")
    if "\x00" in text:
        raise UsageError(f"{field}: {shown(text)} contains a null character")
