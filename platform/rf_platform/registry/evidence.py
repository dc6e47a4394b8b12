"""Evidence about items: their first users, durable, in the order in which they become visible, the same for all processes.

It lies beside the journal of the live catalog and is numbered like it: a writer holds the lock of all writers until it has
committed. A user counts once for an item; a deleted item takes its evidence along.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Select, delete, func, insert, select

from rf_platform.registry.engine import explained, writing
from rf_platform.registry.models import CatalogChange, ItemEvidence

_PAGE = 2000
_IN_ONE_STATEMENT = 500


@dataclass(frozen=True, kw_only=True)
class FirstUser:
    """One of the first users of an item."""

    item_id: str
    user_id: str
    event: int
    """Number of the event in the log."""
    timestamp_us: int
    bundle: str
    """Name of the bundle with the user tower of ``query``."""
    query: bytes
    """Unit query vector just before the event, 32-bit floats."""
    features: str
    """Profile and history just before the event, as JSON."""


@dataclass(frozen=True, kw_only=True)
class Noted(FirstUser):
    """A first user as it was recorded."""

    sequence: int


class NotedAt(NamedTuple):
    """A first user by number, with what says whether a bundle counts it."""

    sequence: int
    item_id: str
    timestamp_us: int


class EvidenceJournal:
    """Reads and writes the evidence in the platform's registry; safe from many threads and processes at once.

    All methods raise :class:`~rf_platform.errors.UnavailableError` when the database cannot be used.
    """

    def __init__(self, engine: Engine) -> None:
        """``engine``: that of the registry, as :class:`~rf_platform.registry.journal.CatalogJournal` has it."""
        self._engine, self._writer = engine, writing(engine)

    def record(self, users: Sequence[FirstUser], most: int) -> int:
        """Record first users; those that an item has already, beyond ``most`` of it, or of a deleted item, are left out.

        Returns:
            How many were recorded; they are on disk then.
        """
        if not users:
            return 0
        items = sorted({user.item_id for user in users})
        with self._transaction(self._writer) as connection:
            known, deleted = set(_known(connection, items)), _deleted(connection, items)
            counts = Counter(item for item, _ in known)
            fresh = []
            for user in users:
                key = user.item_id, user.user_id
                if key in known or user.item_id in deleted or counts[user.item_id] >= most:
                    continue
                known.add(key)
                counts[user.item_id] += 1
                fresh.append(vars(user))
            if fresh:
                connection.execute(insert(ItemEvidence), fresh)
        return len(fresh)

    def read(self, after: int) -> Iterator[Noted]:
        """Return all first users behind a number, in order."""
        return self._pages(select(ItemEvidence.__table__), after)

    def read_of(self, items: Sequence[str], until: int) -> Iterator[Noted]:
        """Return the first users of items up to a number, in order for each of them."""
        query = select(ItemEvidence.__table__).where(ItemEvidence.sequence <= until)
        for start in range(0, len(items), _IN_ONE_STATEMENT):
            yield from self._pages(query.where(ItemEvidence.item_id.in_(items[start : start + _IN_ONE_STATEMENT])), 0)

    def noted_before(self, time_us: int) -> Iterator[NotedAt]:
        """Return the first users whose event lies before a time, in order of their numbers."""
        columns = ItemEvidence.sequence, ItemEvidence.item_id, ItemEvidence.timestamp_us
        query, after = select(*columns).where(ItemEvidence.timestamp_us < time_us).order_by("sequence"), 0
        while True:
            with self._transaction(self._engine) as connection:
                page = connection.execute(query.where(ItemEvidence.sequence > after).limit(_PAGE)).all()
            yield from (NotedAt(*row) for row in page)
            if len(page) < _PAGE:
                return
            after = page[-1].sequence

    def remove(self, sequences: Sequence[int]) -> None:
        """Remove first users by number; writers wait for some of them at a time."""
        for start in range(0, len(sequences), _IN_ONE_STATEMENT):
            some = ItemEvidence.sequence.in_(sequences[start : start + _IN_ONE_STATEMENT])
            with self._transaction(self._writer) as connection:
                connection.execute(delete(ItemEvidence).where(some))

    def counts(self, items: Sequence[str] | None = None) -> dict[str, int]:
        """Return the number of first users of every item that has some, or of those among the given ones."""
        query = select(ItemEvidence.item_id, func.count()).group_by(ItemEvidence.item_id)
        parts = [query]
        if items is not None:
            groups = [items[start : start + _IN_ONE_STATEMENT] for start in range(0, len(items), _IN_ONE_STATEMENT)]
            parts = [query.where(ItemEvidence.item_id.in_(group)) for group in groups]
        with self._transaction(self._engine) as connection:
            return {row[0]: row[1] for part in parts for row in connection.execute(part)}

    def _pages(self, first: Select[Any], after: int) -> Iterator[Noted]:
        while True:
            query = first.where(ItemEvidence.sequence > after)
            with self._transaction(self._engine) as connection:
                page = [Noted(**row) for row in connection.execute(query.order_by("sequence").limit(_PAGE)).mappings()]
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].sequence

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        with explained(self._engine.url), engine.begin() as connection:
            yield connection


def _known(connection: Connection, items: Sequence[str]) -> Iterator[tuple[str, str]]:
    for start in range(0, len(items), _IN_ONE_STATEMENT):
        some = ItemEvidence.item_id.in_(items[start : start + _IN_ONE_STATEMENT])
        yield from connection.execute(select(ItemEvidence.item_id, ItemEvidence.user_id).where(some))


def _deleted(connection: Connection, items: Sequence[str]) -> set[str]:
    gone: set[str] = set()
    for start in range(0, len(items), _IN_ONE_STATEMENT):
        newest = CatalogChange.superseded_us.is_(None) & CatalogChange.features.is_(None)
        some = CatalogChange.item_id.in_(items[start : start + _IN_ONE_STATEMENT])
        gone.update(connection.scalars(select(CatalogChange.item_id).where(newest, some)))
    return gone
