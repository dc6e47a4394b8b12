"""Seen sets of an online store, kept up with recorded events.

Adding to a set is idempotent and knows no order, since the last time of a pair is the largest: an event that is applied again,
late, or after a crash leaves the set exact.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rf_platform.data.event_log import LoggedEvent
from rf_platform.features.dtype import MISSING_STRING
from rf_platform.features.seen import COUNTS, ITEMS, TIMES, TYPES, SeenSet, seen_view
from rf_platform.features.spec import FeatureSpec
from rf_serving.user_features.online_store import EntityKeys

if TYPE_CHECKING:
    from feast import FeatureStore
    from feast.protos.feast.types.Value_pb2 import Value

Pair = tuple[int | str, str, int]
"""Item, event type, and seconds since 1970; 0 where they are not known."""


class OnlineSeen:
    """Reads, adds to and writes the rows of users by a connection that it is given; one at a time may do so."""

    def __init__(self, store: "FeatureStore", spec: FeatureSpec) -> None:
        """Take the store and the types of ids."""
        self._config, self._view = store.config, seen_view(store, spec)
        self._keys, self._user_type, self._item_type = (
            EntityKeys(store, self._view),
            spec.user.id_type,
            spec.item.id_type,
        )

    def key(self, user: str) -> Any:
        """Return the key of a user, given as text; None for an id that no user can have."""
        found = self._keys.of(int(user) if self._user_type == "int64" else user)
        return None if found is None else found[1]

    def prepare(self, online: Any) -> None:
        """Make the table, if a materialisation has not: only then does the store's user need the right to."""
        nobody = self.key("-1")
        try:
            online.online_read(self._config, self._view, [nobody], [ITEMS])
        except Exception:  # each store raises its own classes
            online.update(self._config, [], [self._view], [], [], True)

    def read(self, online: Any, users: Sequence[str]) -> "dict[str, dict[str, Value]]":
        """Return the rows of those users that have one."""
        keys = [self.key(user) for user in users]
        found = online.online_read(self._config, self._view, keys, [ITEMS, TYPES, COUNTS, TIMES])
        # Redis gives nulls where the user has rows of other views.
        return {user: row for user, (_, row) in zip(users, found, strict=True) if row and row[ITEMS].WhichOneof("val")}

    def pair(self, event: LoggedEvent) -> Pair:
        """Return what an event adds to a set."""
        item = int(event.item_id) if self._item_type == "int64" else event.item_id
        return item, event.values.get("event_type") or MISSING_STRING, event.timestamp_us // 1_000_000

    def added(self, row: "Mapping[str, Value] | None", pairs: Iterable[Pair]) -> "dict[str, Value] | None":
        """Return a row, if there is none yet a new one, with some pairs added; None if it has all of them already."""
        changed, seen = row is None, SeenSet(self._item_type) if row is None else SeenSet.of_row(self._item_type, row)
        for item, event_type, seconds in pairs:
            changed |= seen.add(item, event_type, seconds)
        return seen.row() if changed else None

    def write(self, online: Any, rows: "Mapping[str, Mapping[str, Value]]") -> None:
        """Write the rows of users."""
        if rows:
            now = datetime.now(UTC)
            data = [(self.key(user), dict(row), now, None) for user, row in rows.items()]
            online.online_write_batch(self._config, self._view, data, None)
