"""The journal of the live catalog: every change of an item, durable before it is acknowledged.

What counts is the newest change of each item: it is what the item is, whatever a bundle has. Earlier ones are kept for a
day, then trimmed. Changes are numbered in the order
they become visible, in every process and on both engines: a writer holds the lock of all writers until it has committed, so a
reader that has seen number n will never find a smaller one that it had missed.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine, Select, delete, event, func, insert, select, update
from sqlalchemy.exc import DisconnectionError

from rf_platform.errors import UnavailableError
from rf_platform.registry.engine import database_file, explained, make_engine, parse_url, upgrade, writing
from rf_platform.registry.models import CatalogChange, ItemEvidence
from rf_platform.settings import get_settings

WAIT_SECONDS = 5
"""Longest wait of a change for other writers, and for a server that does not answer."""
KEPT_US = 24 * 3600 * 1_000_000
"""Time that superseded changes are kept."""
T = TypeVar("T")
_PAGE = 5000
_TRIMMED_AT_ONCE = 1000
_AT_ONCE = 5000
"""Rows that one statement names."""
_NEWEST = CatalogChange.superseded_us.is_(None)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change: the wanted state of an item."""

    item_id: str
    features: str | None
    """Canonical JSON, so that equal features are equal texts; None: the item is to be deleted."""
    built: str | None = None
    """Features of the item in the served bundle, in the same form; None: the bundle does not have it."""
    partial: bool = False
    """Whether ``features`` has only the fields that change: all others stay as they are when the change is recorded. An item that
    is not there then stays away."""
    agreed: bool = True
    """Whether all bundles that answer have it like this; if not, it is recorded also where the served one has it already."""

    def merged(self, before: str | None) -> str | None:
        """Return what the change makes of an item, in the journal's form."""
        if not self.partial or before is None or self.features is None:
            return self.features
        return canonical_json({**json.loads(before), **json.loads(self.features)})


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A change as it was recorded."""

    sequence: int
    item_id: str
    features: str | None
    """None: the item was deleted."""
    changed_us: int
    """Time of the change, in microseconds since 1970, UTC."""


class Recorded(NamedTuple):
    """Outcome of a change."""

    sequence: int
    """Number of the change that made the item what it is; 0 if the bundle has it like this."""
    before: str | None
    """Item before the change; None: it was not there."""
    fresh: bool
    """Whether anything had to be recorded."""


class CatalogJournal:
    """Reads and writes the journal in the platform's registry; safe from many threads and processes at once.

    All methods raise :class:`~rf_platform.errors.UnavailableError` when the database cannot be used.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine, self._writer = engine, writing(engine)

    @classmethod
    def open(cls, url: str | None = None) -> "CatalogJournal":
        """Open the journal of a registry, creating or upgrading its tables if need be.

        Args:
            url: SQLAlchemy URL of the registry; default: that of the settings.

        Raises:
            ConfigError: the URL is not usable, or a newer version of the code has written the tables.
            UnavailableError: the database cannot be reached.
            CorruptError: the file is no SQLite database.
        """
        parsed = parse_url(url or get_settings().platform_registry_url)
        with explained(parsed):
            upgrade(make_engine(parsed))
        engine = make_engine(parsed, keep=True, wait_seconds=WAIT_SECONDS)
        if database_file(parsed) is not None:
            _write_through(engine)
            _follow_file(engine)
        return cls(engine)

    def record(self, batches: Sequence[Sequence[Change]]) -> list[list[Recorded]]:
        """Record changes, all or none, in the order given; they are on disk when this returns.

        Done again, the same change records nothing. A partial change is merged with the item as it is inside the transaction, so
        changes of different fields by several writers all hold. A delete of an item that was never there is recorded once:
        it must not appear with a bundle that comes later, either.
        """
        changes = [change for batch in batches for change in batch]
        with self._transaction(self._writer) as connection:
            newest = {}
            for ids in _some(dict.fromkeys(change.item_id for change in changes)):
                for entry in _entries(connection, _SELECT.where(_NEWEST, CatalogChange.item_id.in_(ids))):
                    newest[entry.item_id] = entry
            plan = _Plan(newest, _last(connection))
            recorded = [[plan.add(change) for change in batch] for batch in batches]
            plan.write(connection)
        return recorded

    def read(self, after: int) -> Iterator[Entry]:
        """Return all changes behind a number, in order."""
        yield from self._pages(_SELECT, after)

    def newest(self, after: int = 0) -> Iterator[Entry]:
        """Return the newest change of every item, as far as it lies behind a number, in order."""
        yield from self._pages(_SELECT.where(_NEWEST), after)

    def find(self, sequence: int) -> Entry | None:
        """Return the change of a number; None if there is none, or none any more."""
        with self._transaction(self.engine) as connection:
            found = _entries(connection, _SELECT.where(CatalogChange.sequence == sequence))
        return found[0] if found else None

    def last(self) -> int:
        """Return the number of the last change, 0 if there is none."""
        with self._transaction(self.engine) as connection:
            return _last(connection)

    def trim(self, kept_us: int = KEPT_US) -> int:
        """Remove some of the changes that were superseded longer ago than ``kept_us``; return how many.

        Call it again until it returns 0: writers wait for one call only.
        """
        old = CatalogChange.superseded_us < now_us() - kept_us
        query = select(CatalogChange.sequence).where(old).order_by(CatalogChange.superseded_us).limit(_TRIMMED_AT_ONCE)
        with self._transaction(self.engine) as connection:  # most often there is nothing to do, and no lock is taken
            found = list(connection.scalars(query))
        if found:
            with self._transaction(self._writer) as connection:
                connection.execute(delete(CatalogChange).where(CatalogChange.sequence.in_(found)))
        return len(found)

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    def _pages(self, query: Select[int, str, str | None, int], after: int) -> Iterator[Entry]:
        while True:
            page = query.where(CatalogChange.sequence > after).order_by(CatalogChange.sequence).limit(_PAGE)
            with self._transaction(self.engine) as connection:
                entries = _entries(connection, page)
            yield from entries
            if len(entries) < _PAGE:
                return
            after = entries[-1].sequence

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        with explained(self.engine.url), engine.begin() as connection:
            yield connection


class _Plan:
    """Rows that a transaction is going to write."""

    def __init__(self, newest: dict[str, Entry], last: int) -> None:
        self._newest, self._last, self._now = newest, last, now_us()
        self._fresh: list[Entry] = []
        self._superseded: list[int] = []

    def add(self, change: Change) -> Recorded:
        """Decide on one change."""
        entry = self._newest.get(change.item_id)
        before = change.built if entry is None else entry.features
        if change.partial and before is None:
            return Recorded(entry.sequence if entry is not None else 0, None, fresh=False)
        features = change.merged(before)
        known = entry is not None or (change.built is not None and change.agreed)
        if before == features and known:
            return Recorded(entry.sequence if entry is not None else 0, before, fresh=False)
        self._last += 1
        if entry is not None:
            self._superseded.append(entry.sequence)
        fresh = Entry(sequence=self._last, item_id=change.item_id, features=features, changed_us=self._now)
        self._newest[change.item_id] = fresh
        self._fresh.append(fresh)
        return Recorded(fresh.sequence, before, fresh=True)

    def write(self, connection: Connection) -> None:
        """Write what was decided; earlier changes give way first, since an item has one newest change."""
        superseded = set(self._superseded)
        for sequences in _some(superseded - {entry.sequence for entry in self._fresh}):
            rows = update(CatalogChange).where(CatalogChange.sequence.in_(sequences))
            connection.execute(rows.values(superseded_us=self._now))
        fresh = [
            {**vars(entry), "superseded_us": self._now if entry.sequence in superseded else None}
            for entry in self._fresh
        ]
        if fresh:
            connection.execute(insert(CatalogChange), fresh)
        # What is known of an item goes with it.
        for items in _some(entry.item_id for entry in self._fresh if entry.features is None):
            connection.execute(delete(ItemEvidence).where(ItemEvidence.item_id.in_(items)))


_SELECT = select(CatalogChange.sequence, CatalogChange.item_id, CatalogChange.features, CatalogChange.changed_us)


def canonical_json(values: Mapping[str, Any]) -> str:
    """Return the features of an item in the journal's form; equal features give equal texts."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def now_us() -> int:
    """Return microseconds since 1970, UTC."""
    return time.time_ns() // 1000


def _entries(connection: Connection, query: Select[int, str, str | None, int]) -> list[Entry]:
    return [
        Entry(sequence=sequence, item_id=item, features=features, changed_us=changed)
        for sequence, item, features, changed in connection.execute(query)
    ]


def _last(connection: Connection) -> int:
    return connection.scalar(select(func.max(CatalogChange.sequence))) or 0


def _write_through(engine: Engine) -> None:
    """Make SQLite sync its log at every commit, not only at checkpoints as is common with write-ahead logs."""

    def full(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous = FULL")

    event.listen(engine, "connect", full)


def _follow_file(engine: Engine) -> None:
    """Close a file that was replaced or removed: writes to it would be lost with it."""
    path = database_file(engine.url)
    assert path is not None

    def refuse_to_create(*_: Any) -> None:
        if not path.is_file():
            raise UnavailableError(f"the registry {engine.url.render_as_string()} is gone; restore the file")

    def remember(_: Any, record: Any) -> None:
        record.info["file"] = path.stat().st_ino

    def compare(_: Any, record: Any, __: Any) -> None:
        if not path.is_file() or path.stat().st_ino != record.info["file"]:
            raise DisconnectionError

    event.listen(engine, "do_connect", refuse_to_create)
    event.listen(engine, "connect", remember)
    event.listen(engine, "checkout", compare)


def _some(values: Iterable[T], count: int = _AT_ONCE) -> Iterator[list[T]]:
    rest = iter(values)
    while some := list(islice(rest, count)):
        yield some
