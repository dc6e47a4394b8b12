"""Brings recorded events into the histories and seen sets of the online store: read, put in place, write."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from rf_platform.data.event_log import LoggedEvent
from rf_platform.features.meanings import SEEN
from rf_platform.features.online_table import StoreFile
from rf_platform.features.store_marks import AppliedMark, LoadMark, Marks, StoreMarks
from rf_serving.events.history import HistoryLayout, UserHistory, as_microseconds, as_time
from rf_serving.events.online_seen import OnlineSeen
from rf_serving.events.rebuild import HistoryRebuilder, Rebuilt
from rf_serving.user_features.online_store import close_online, open_online

if TYPE_CHECKING:
    from feast import FeatureStore

WAIT_SECONDS = 2.0
"""Time limit of a call to the online store."""
_REMEMBERED = 100_000


@dataclass(frozen=True, kw_only=True)
class Applied:
    """Counts of an applied batch."""

    users: int
    rebuilt: int
    """Users whose history was made anew from the log."""
    failed: int
    """Users whose history could not be updated: a bug, or definitions that do not fit the log."""


class OnlineHistory:
    """Updates the history views and the seen sets of an online store. One at a time may do so, in one thread."""

    def __init__(
        self, store: "FeatureStore", layout: HistoryLayout, rebuilder: HistoryRebuilder | None, seen: OnlineSeen
    ) -> None:
        """Resolve views.

        Args:
            store: the feature store.
            layout: the arrays.
            rebuilder: makes histories from tables and log; None where the tables are not at hand.
            seen: the seen sets.
        """
        self._store, self._layout, self._rebuilder, self._seen = store, layout, rebuilder, seen
        self._views = [store.get_feature_view(name) for name in layout.views]
        self._marks = StoreMarks(store)
        self._online: Any = None
        self._file = StoreFile(store.config)
        self._opened: tuple[int, int] | None = None
        self._prepared = False
        self._newest: OrderedDict[str, int] = OrderedDict()
        self._log = structlog.get_logger("rf_serving")

    def marks(self) -> Marks:
        """Return the marks of the store; raises errors of its own."""
        return self._marks.read(self._connected())

    def create_marks(self) -> None:
        """Make the table of the marks, if there is none; takes the right to."""
        self._marks.create(self._connected())

    def mark_load(self, mark: LoadMark) -> None:
        """Mark the store as loaded."""
        self._marks.write_load(self._connected(), mark)

    def mark_applied(self, *marks: AppliedMark) -> None:
        """Mark events as applied, after :meth:`apply`."""
        self._marks.write_applied(self._connected(), marks)

    def apply(self, events: Sequence[LoggedEvent], *, again: bool = False) -> Applied:
        """Apply events, in the order of the log, to the online store.

        Args:
            events: the next ones.
            again: some of them may be there already.

        Raises:
            Exception: the online store's own, if it cannot be read or written: then some may be there.
        """
        by_user: OrderedDict[str, list[LoggedEvent]] = OrderedDict()
        for event in events:
            # A user whose id has no key cannot be asked for.
            if self._layout.meaning(event) in SEEN and self._seen.key(event.user_id) is not None:
                by_user.setdefault(event.user_id, []).append(event)
        if not by_user:
            return Applied(users=0, rebuilt=0, failed=0)
        try:
            return self._apply(by_user, events[-1].sequence, again)
        except Exception:
            self.forget()
            raise

    def forget(self) -> None:
        """Drop cached rows of the store, and its connection: another process wrote to it."""
        self._newest.clear()
        close_online(self._online)
        self._online, self._prepared = None, False

    def _connected(self) -> Any:
        """Return the connection, a new one if the file of the store was replaced."""
        if self._online is not None and self._file.identity != self._opened:
            self.forget()
        if self._online is None:
            self._opened = self._file.identity
            self._online = open_online(self._store.config, WAIT_SECONDS, retries=False)
        return self._online

    def _apply(self, by_user: Mapping[str, list[LoggedEvent]], last: int, again: bool) -> Applied:
        self._connected()
        if not self._prepared:
            self._prepare()
        config = self._store.config
        if hasattr(config.online_store, "skip_dedup"):
            config.online_store.skip_dedup = True  # else Redis ignores a late event: its row is no newer than before
        anew = list(by_user) if again and self._rebuilder else []
        failed = 0
        if not anew:
            histories = self._read(list(by_user))
            sets = self._seen.read(self._online, list(by_user))
            lost = self._lost(histories, sets, by_user)
            seen: dict[str, Any] = {}
            for user, history in histories.items():
                try:
                    if user in lost:
                        anew.append(user)
                        continue
                    earlier = [] if user in sets else history.pairs()
                    added = self._seen.added(sets.get(user), [*earlier, *map(self._seen.pair, by_user[user])])
                    if added is not None:
                        seen[user] = added
                    if not self._insert(history, by_user[user], again):
                        anew.append(user)
                except Exception:
                    self._log.exception("history not updated", user=user)
                    failed += 1
            self._seen.write(self._online, seen)
            done = {u: h for u, h in histories.items() if h.changed and u not in anew}
            self._write({user: (h.values, as_time(h.newest_us)) for user, h in done.items()})
            self._remember(done)
        if anew:
            assert self._rebuilder is not None
            try:
                rows = self._rebuilder.rows(anew, last)
            except Exception:
                self._log.exception("histories not made anew", users=len(anew))
                rows, failed = Rebuilt({}, {}), failed + len(anew)
            for user in anew:
                self._newest.pop(user, None)
            self._seen.write(self._online, rows.seen)
            self._write(rows.histories)
        return Applied(users=len(by_user), rebuilt=len(anew), failed=failed)

    def _lost(
        self, histories: Mapping[str, UserHistory], sets: Mapping[str, Any], by_user: Mapping[str, list[LoggedEvent]]
    ) -> set[str]:
        """Return the users without a row that the store should have, where there are tables to make it from."""
        if self._rebuilder is None:
            return set()
        empty = {u for u, history in histories.items() if self._views and history.empty}
        lost = {u for u in histories if u not in sets and u not in empty}  # loaded without seen sets
        try:
            for rowless in ([u for u in empty if u in sets], [u for u in empty if u not in sets]):
                if rowless:
                    # A user with a seen set may have had nothing that a history keeps.
                    kept = ("wanted",) if rowless[0] in sets else SEEN
                    first = min(by_user[user][0].sequence for user in rowless)
                    lost |= self._rebuilder.known(rowless, first, partial(self._means, kept))
        except Exception:
            self._log.exception("users without rows not looked up", users=len(empty))
        return lost

    def _means(self, kept: Sequence[str], event: LoggedEvent) -> bool:
        return self._layout.meaning(event) in kept

    def _insert(self, history: UserHistory, events: Sequence[LoggedEvent], again: bool) -> bool:
        if not self._views:
            return True
        wanted = [event for event in events if self._layout.meaning(event) == "wanted"]
        if self._rebuilder is not None:
            return all(history.insert(event) for event in wanted)
        for event in wanted:
            if again or not history.insert(event):
                history.approximate(event, again=again)
        return True

    def _read(self, users: Sequence[str]) -> dict[str, UserHistory]:
        keys = [self._seen.key(user) for user in users]
        histories = {user: UserHistory(self._layout, {}, 0) for user in users}
        for view in self._views:
            names = [f.field for f in self._layout.fields if f.view == view.name]
            found = self._online.online_read(self._store.config, view, keys, list(names))
            for history, (moment, row) in zip(histories.values(), found, strict=True):
                history.values.update({f"{view.name}__{name}": v for name, v in (row or {}).items() if name in names})
                if moment is not None:
                    # UTC, whatever zone a session of PostgreSQL put to it.
                    history.newest_us = max(history.newest_us, as_microseconds(moment.replace(tzinfo=UTC)))
        for user, history in histories.items():
            newest = self._newest.get(user, 0)
            if newest and newest >= history.newest_us:
                history.newest_us, history.exact = newest, True
        return histories

    def _write(self, rows: Mapping[str, tuple[Mapping[str, Any], datetime]]) -> None:
        if not rows:
            return
        for view in self._views:
            names = {f"{view.name}__{f.field}": f.field for f in self._layout.fields if f.view == view.name}
            data = [
                (self._seen.key(user), {field: values[name] for name, field in names.items()}, moment, None)
                for user, (values, moment) in rows.items()
            ]
            self._online.online_write_batch(self._store.config, view, data, None)

    def _remember(self, done: Mapping[str, UserHistory]) -> None:
        for user, history in done.items():
            if history.exact:
                self._newest[user] = history.newest_us
                self._newest.move_to_end(user)
        while len(self._newest) > _REMEMBERED:
            self._newest.popitem(last=False)

    def _prepare(self) -> None:
        """Make the table of seen sets, and let readers of SQLite go on while a row is written; the file remembers it."""
        self._seen.prepare(self._online)
        if self._store.config.online_store.type == "sqlite":
            self._online._get_conn(self._store.config).execute("PRAGMA journal_mode = WAL")
        self._prepared = True
