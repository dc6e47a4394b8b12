"""Seen set of a user: items of the whole interaction log by event type, with their last times; ignored events aside.

It is kept apart from the history, which is bounded and feeds the model: no field of it is a feature, and no FeatureSpec names it.
One row per user lies in a table of the online store that belongs to the platform. The view is made here and never
registered, so no repository has to define it, and an apply of other definitions does not drop it.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rf_platform.features.spec import FeatureSpec, IdType

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView
    from feast.protos.feast.types.Value_pb2 import Value

VIEW = "rf_seen"
ITEMS, TYPES, COUNTS, TIMES = "items", "event_types", "counts", "last_times"
"""Ids of all event types one type after the other, rising within a type; the types, rising; how many ids each has; and the last
event of each id, in seconds since 1970, 0 where it is not known."""
_MOST_SECONDS = 2**32 - 1

Ids = npt.NDArray[np.int64] | Sequence[str]
"""Item ids in the catalog's type."""


class SeenSet:
    """Distinct pairs of item and event type of one user, each with the time of its last event.

    The ids of a type are kept in rising order, so equal sets have equal rows, whatever order their events came in.
    """

    def __init__(
        self,
        id_type: IdType,
        items: Mapping[str, Sequence[int | str]] | None = None,
        times: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        """Take what is there.

        Args:
            id_type: of the item ids.
            items: ids by event type, distinct and rising.
            times: seconds since 1970 of each; None: not known.
        """
        self._id_type = id_type
        self._items: dict[str, list[int | str]] = {name: list(ids) for name, ids in (items or {}).items()}
        self._times = {n: list(times[n]) if times else [0] * len(ids) for n, ids in self._items.items()}

    @classmethod
    def of_row(cls, id_type: IdType, row: "Mapping[str, Value]") -> "SeenSet":
        """Return the set that :meth:`row` wrote."""
        ids = decode_ids(row[ITEMS])
        every = ids.tolist() if isinstance(ids, np.ndarray) else ids
        times = decode_times(row, len(every)).tolist()
        bounds = list(pairwise(np.cumsum([0, *row[COUNTS].int64_list_val.val]).tolist()))
        names = row[TYPES].string_list_val.val
        return cls(
            id_type,
            {name: every[start:stop] for name, (start, stop) in zip(names, bounds, strict=True)},
            {name: times[start:stop] for name, (start, stop) in zip(names, bounds, strict=True)},
        )

    def add(self, item: int | str, event_type: str, seconds: int = 0) -> bool:
        """Add an event at a time, in seconds since 1970, and return whether the set is another one now."""
        ids, times = self._items.setdefault(event_type, []), self._times.setdefault(event_type, [])
        seconds = min(max(0, seconds), _MOST_SECONDS)
        place = bisect_left(ids, item)
        if place < len(ids) and ids[place] == item:
            later, times[place] = seconds > times[place], max(seconds, times[place])
            return later
        ids.insert(place, item)
        times.insert(place, seconds)
        return True

    def row(self) -> "dict[str, Value]":
        """Return the set as the values of its row."""
        held = sorted(self._items.items())
        ids = [item for _, ids in held for item in ids]
        times = [time for name, _ in held for time in self._times[name]]
        return encode_row(self._id_type, ids, [name for name, _ in held], [len(ids) for _, ids in held], times)


def encode_row(
    id_type: IdType,
    ids: npt.NDArray[np.int64] | Sequence[int | str],
    types: Sequence[str],
    counts: Sequence[int],
    times: npt.NDArray[np.int64] | Sequence[int],
) -> "dict[str, Value]":
    """Return the values of a row: 8 bytes for an integer id, 4 for its time, and nothing for its event type but the count.

    Args:
        id_type: of the item ids.
        ids: those of the first event type, then those of the next; rising within a type.
        types: event types, rising.
        counts: number of ids of each.
        times: last event of each id, in seconds since 1970.
    """
    from feast.protos.feast.types.Value_pb2 import Value

    items, named, counted = Value(), Value(), Value()
    timed = Value(bytes_val=np.asarray(times, np.int64).clip(0, _MOST_SECONDS).astype("<u4").tobytes())
    if id_type == "int64":
        items.bytes_val = np.asarray(ids, "<i8").tobytes()
    else:
        items.string_list_val.val.extend(ids)  # type: ignore[arg-type]
    named.string_list_val.val.extend(types)
    counted.int64_list_val.val.extend(counts)
    return {ITEMS: items, TYPES: named, COUNTS: counted, TIMES: timed}


def decode_ids(value: "Value") -> Ids:
    """Return the ids of a row's field :data:`ITEMS`; those seen with several event types come more than once."""
    if value.WhichOneof("val") == "string_list_val":
        return list(value.string_list_val.val)
    return np.frombuffer(value.bytes_val, "<i8")


def decode_times(row: "Mapping[str, Value]", count: int) -> npt.NDArray[np.int64]:
    """Return the time of each of ``count`` ids of a row, in seconds; 0 in a row that an earlier version wrote."""
    held = row[TIMES].bytes_val if TIMES in row else b""
    return np.frombuffer(held, "<u4").astype(np.int64) if len(held) == 4 * count else np.zeros(count, np.int64)


def seen_view(store: "FeatureStore", spec: FeatureSpec) -> "FeatureView":
    """Return the view of the platform's table, for Feast's own calls to read and write it.

    Args:
        store: has the user entity.
        spec: names it, and the type of item ids.
    """
    from feast import FeatureView, Field, FileSource
    from feast.types import Array, Bytes, Int64, String, from_value_type

    user = store.get_entity(spec.user.name)
    ids = Bytes if spec.item.id_type == "int64" else Array(String)
    return FeatureView(
        name=VIEW,
        entities=[user],
        # Feast wants a source; rows come from the interaction log by way of `rf_platform.features.seen_rows`.
        source=FileSource(name=VIEW, path=f"{VIEW}.parquet", timestamp_field="event_timestamp"),
        schema=[
            Field(name=user.join_key, dtype=from_value_type(user.value_type)),
            Field(name=ITEMS, dtype=ids),
            Field(name=TYPES, dtype=Array(String)),
            Field(name=COUNTS, dtype=Array(Int64)),
            Field(name=TIMES, dtype=Bytes),
        ],
    )
