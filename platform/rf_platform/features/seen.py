"""Seen set of a user: every item of the interaction log by event type, back to the beginning, ignored events aside.

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
ITEMS, TYPES, COUNTS = "items", "event_types", "counts"
"""Ids of all event types one type after the other, rising within a type; the types, rising; and how many ids each has."""

Ids = npt.NDArray[np.int64] | Sequence[str]
"""Item ids in the catalog's type."""


class SeenSet:
    """Distinct pairs of item and event type of one user.

    The ids of a type are kept in rising order, so equal sets have equal rows, whatever order their events came in.
    """

    def __init__(self, id_type: IdType, items: Mapping[str, Sequence[int | str]] | None = None) -> None:
        """Take what is there.

        Args:
            id_type: of the item ids.
            items: ids by event type, distinct and rising.
        """
        self._id_type = id_type
        self._items: dict[str, list[int | str]] = {name: list(ids) for name, ids in (items or {}).items()}

    @classmethod
    def of_row(cls, id_type: IdType, row: "Mapping[str, Value]") -> "SeenSet":
        """Return the set that :meth:`row` wrote."""
        ids = decode_ids(row[ITEMS])
        every = ids.tolist() if isinstance(ids, np.ndarray) else ids
        bounds = pairwise(np.cumsum([0, *row[COUNTS].int64_list_val.val]).tolist())
        names = row[TYPES].string_list_val.val
        return cls(id_type, {name: every[start:stop] for name, (start, stop) in zip(names, bounds, strict=True)})

    def add(self, item: int | str, event_type: str) -> bool:
        """Add a pair and return whether it is new."""
        ids = self._items.setdefault(event_type, [])
        place = bisect_left(ids, item)
        if place < len(ids) and ids[place] == item:
            return False
        ids.insert(place, item)
        return True

    def row(self) -> "dict[str, Value]":
        """Return the set as the values of its row."""
        held = sorted(self._items.items())
        ids = [item for _, ids in held for item in ids]
        return encode_row(self._id_type, ids, [name for name, _ in held], [len(ids) for _, ids in held])


def encode_row(
    id_type: IdType, ids: npt.NDArray[np.int64] | Sequence[int | str], types: Sequence[str], counts: Sequence[int]
) -> "dict[str, Value]":
    """Return the values of a row: 8 bytes for an integer id, and nothing for its event type but the count.

    Args:
        id_type: of the item ids.
        ids: those of the first event type, then those of the next; rising within a type.
        types: event types, rising.
        counts: number of ids of each.
    """
    from feast.protos.feast.types.Value_pb2 import Value

    items, named, counted = Value(), Value(), Value()
    if id_type == "int64":
        items.bytes_val = np.asarray(ids, "<i8").tobytes()
    else:
        items.string_list_val.val.extend(ids)  # type: ignore[arg-type]
    named.string_list_val.val.extend(types)
    counted.int64_list_val.val.extend(counts)
    return {ITEMS: items, TYPES: named, COUNTS: counted}


def decode_ids(value: "Value") -> Ids:
    """Return the ids of a row's field :data:`ITEMS`; those seen with several event types come more than once."""
    if value.WhichOneof("val") == "string_list_val":
        return list(value.string_list_val.val)
    return np.frombuffer(value.bytes_val, "<i8")


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
        ],
    )
