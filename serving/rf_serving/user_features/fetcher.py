"""Stage "fetch": read users' features from the online store."""

import copy
from collections.abc import Callable, Sequence
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import structlog

from rf_platform.errors import CorruptError, UnavailableError
from rf_platform.features.dtype import Dtype
from rf_platform.features.expiry import now_us
from rf_platform.features.seen import COUNTS, ITEMS, TIMES, TYPES, VIEW, decode_ids, decode_times, seen_view
from rf_platform.features.spec import FeatureSpec, FieldSpec
from rf_serving.user_features.features import SeenEvents, SeenRead, UserFeatures
from rf_serving.user_features.online_rows import READ_AT, OnlineRows, Row, plain
from rf_serving.user_features.online_store import WAIT_SECONDS

if TYPE_CHECKING:
    from feast import FeatureStore

_MICROSECONDS = 1_000_000
_NO_TIME = -(2**63)
"""Feast's value for a missing time."""
_SEEN = f"{VIEW}__{ITEMS}"
_MORE = {SeenRead.NOTHING: (), SeenRead.ITEMS: (ITEMS,), SeenRead.EVENTS: (ITEMS, TYPES, COUNTS, TIMES)}


class Described(Protocol):
    """Anything with a FeatureSpec, such as a bundle."""

    @property
    def spec(self) -> FeatureSpec:
        """Says which features are read."""


class FeatureFetcher:
    """Reads all features of users in one go: profile and history, none of the item views of the service; if asked, the seen set.

    Not safe for several threads at once: an online store's connection belongs to one.
    """

    def __init__(self, store: "FeatureStore", bundle: Described, clock: Callable[[], int] = now_us) -> None:
        """Resolve the views.

        Args:
            store: the feature store.
            bundle: says which features are read.
            clock: the present, in microseconds since 1970: values that are older than the ttl of their view are missing.
        """
        spec = bundle.spec
        self._profile, self._context, self._items = _read_by(spec)
        fields = [(f.view, f.field) for f in (*self._profile, *spec.history)]
        self._rows = OnlineRows(store, fields, clock, more=seen_view(store, spec))
        self._views = sorted({view for view, _ in fields})
        self._told = Event()

    def reads_as(self, other: "FeatureFetcher") -> bool:
        """Whether another one reads the same fields by the same times to live."""
        mine, others = ((each._profile, each._context, each._items, each._rows.ttls) for each in (self, other))
        return mine == others

    @property
    def is_local(self) -> bool:
        """Whether reading takes less time than asking another thread to read."""
        return self._rows.is_local

    def connected(self, wait_seconds: float = WAIT_SECONDS) -> "FeatureFetcher":
        """Return a fetcher with a connection of its own, for another thread.

        Args:
            wait_seconds: how long a read waits for a store that is locked or silent.
        """
        other = copy.copy(self)
        other._rows = self._rows.connected(wait_seconds)
        return other

    def fetch(self, user_id: int | str, *, seen: int = SeenRead.NOTHING) -> UserFeatures:
        """Return the features of a user; of an unknown user, none.

        Args:
            user_id: the user.
            seen: what to read of the seen set as well (:class:`SeenRead`).

        Raises:
            UnavailableError: the online store cannot be read.
            CorruptError: the arrays of the history differ in length.
        """
        return self.fetch_many([user_id], seen=seen)[0]

    def fetch_many(
        self, user_ids: Sequence[int | str], *, seen: int = SeenRead.NOTHING, timed: bool = False
    ) -> list[UserFeatures]:
        """Return the features of users, in order, read in one round trip; see :meth:`fetch` and :meth:`read`."""
        rows = self.read(user_ids, seen=seen, timed=timed)
        return [self.decode(user, row) for user, row in zip(user_ids, rows, strict=True)]

    def read(self, user_ids: Sequence[int | str], *, seen: int = SeenRead.NOTHING, timed: bool = False) -> list[Row]:
        """Return what the store has of users, for :meth:`decode`.

        Args:
            user_ids: the users.
            seen: what to read of the seen set as well.
            timed: whether to read the event timestamps of the rows, too.

        Raises:
            UnavailableError: the online store cannot be read.
        """
        try:
            rows = self._rows.read(user_ids, more=_MORE[SeenRead(seen)], timed=timed)
        except Exception as error:  # each online store raises its own classes
            whose = f"user_id {user_ids[0]!r}" if len(user_ids) == 1 else f"{len(user_ids)} users"
            raise UnavailableError(
                f"the features of {whose} cannot be read: the online store does not answer"
            ) from error
        if seen and not self._told.is_set():
            self._tell_what_is_missing(user_ids, rows)
        return rows

    def decode(self, user_id: int | str, row: Row) -> UserFeatures:
        """Return the features in a row of the store.

        Raises:
            CorruptError: the arrays of the view with the item ids differ in length.
        """
        profile = {f.name: _scalar(f.type, row.get(f.name)) for f in self._profile}
        items = plain(row.get(self._items.name)) if self._items else None
        seen = decode_ids(row[_SEEN]) if _SEEN in row else None
        events = _events(row, len(seen)) if seen is not None else None
        read_us = row.get(READ_AT, 0)
        moments = {view: row[view] for view in self._views if view in row} if read_us else None
        if not items:
            return UserFeatures(profile=profile, seen=seen, seen_events=events, moments=moments, read_us=read_us)
        context: dict[str, list[Any]] = {}
        timestamps: npt.NDArray[np.int64] | None = None
        for f in self._context:
            array = plain(row.get(f.name))
            if not array:
                continue  # a field that was added after this user's history was written
            if len(array) != len(items):
                if self._items is not None and f.view != self._items.view:
                    continue  # views are written one after the other: this one has not caught up, or is ahead
                raise CorruptError(
                    f"the history of user_id {user_id!r} does not fit together: {len(items)} item ids and {len(array)} values of "
                    f"{f.view}.{f.field}; load it again with `rf features materialize`"
                )
            if f.kind == "timestamp":
                timestamps = np.array(array, np.int64) * _MICROSECONDS
            else:
                context[f.name] = array
        return UserFeatures(
            profile=profile,
            items=items,
            timestamps=timestamps,
            context=context,
            seen=seen,
            seen_events=events,
            moments=moments,
            read_us=read_us,
        )

    def moments(self, user_id: int | str) -> dict[str, datetime]:
        """Return when what the store has of a user was true, by view.

        Raises:
            UnavailableError: the online store cannot be read.
        """
        try:
            return self._rows.moments(user_id)
        except Exception as error:  # each online store raises its own classes
            raise UnavailableError(
                f"the features of user_id {user_id!r} cannot be read: the online store does not answer"
            ) from error

    def close(self) -> None:
        """Close the connection."""
        self._rows.close()

    def _tell_what_is_missing(self, user_ids: Sequence[int | str], rows: Sequence[Row]) -> None:
        """Log once that seen items are those of the history: the store was loaded by a version without seen sets."""
        name = self._items.name if self._items else ""
        user = next(
            (u for u, row in zip(user_ids, rows, strict=True) if plain(row.get(name)) and _SEEN not in row), None
        )
        if user is not None:
            self._told.set()
            structlog.get_logger("rf_serving").warning(
                "no seen set",
                user=user,
                remedy="exclude_seen leaves out the items of the history alone; run `rf features materialize`",
            )


def _read_by(spec: FeatureSpec) -> tuple[tuple[FieldSpec, ...], tuple[FieldSpec, ...], FieldSpec | None]:
    return spec.inputs("user"), spec.inputs("context"), spec.history_items


def _events(row: Row, count: int) -> SeenEvents | None:
    """Return the types and times of a seen set; None where only its ids were read."""
    names = row.get(f"{VIEW}__{TYPES}")
    if names is None:
        return None
    held = {name.removeprefix(f"{VIEW}__"): value for name, value in row.items() if name.startswith(f"{VIEW}__")}
    counts = held[COUNTS].int64_list_val.val
    types = np.repeat(np.array(list(names.string_list_val.val), object), list(counts))
    return SeenEvents(types, decode_times(held, count)) if len(types) == count else None


def _scalar(dtype: Dtype, value: Any) -> Any:
    """Return one value of a profile, times in microseconds."""
    found = plain(value)
    if dtype.is_time and found is not None:
        return None if found == _NO_TIME else found * _MICROSECONDS
    return found
