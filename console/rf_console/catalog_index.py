"""Index of the catalog for people: items by the beginning of their id, words of their display fields, and values of features.

One SQLite file (FTS5) for each bundle, in the workspace's cache: built once, then brought up to date by the journal of the live
catalog. The most popular items of training come first.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from rf_platform.bundle import files
from rf_platform.features.spec import FeatureSpec, FieldSpec
from rf_platform.files import new_file
from rf_platform.registry import BundleRecord
from rf_platform.registry.journal import CatalogJournal

_TABLES = """
CREATE TABLE items (place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, shown TEXT NOT NULL, row INTEGER);
CREATE VIRTUAL TABLE words USING fts5(text, tags, prefix = '2 3', detail = column, tokenize = "unicode61 remove_diacritics 2");
CREATE TABLE state (sequence INTEGER NOT NULL);
"""
_BATCH = 20_000
_LOOK_SECONDS = 1.0
_COUNTED = 1000
"""Matches are counted up to here."""
_MOST_VALUES, _LONGEST = 64, 200
IMAGES = ("image", "image_url")
"""Names of the display field with an item's image."""


@dataclass(frozen=True)
class Found:
    """An item that was found."""

    id: str
    shown: Mapping[str, Any]
    """Display fields by full name, as far as the item has them."""
    row: int | None
    """Row of the bundle's vectors; None: it came later."""


@dataclass(frozen=True)
class Result:
    """Items that were found, one page of them."""

    items: Sequence[Found]
    count: int
    """All of them, counted up to :attr:`most`."""
    most: int = _COUNTED


class CatalogIndex:
    """Index of the items that a bundle serves; safe from any thread.

    Args:
        path: the file, which :func:`build_index` has written.
        journal: changes of the catalog.
        spec: fields of the items.
    """

    def __init__(self, path: Path, journal: CatalogJournal, spec: FeatureSpec) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._connection.execute("PRAGMA synchronous = OFF")
        self.spec = spec
        """Fields of users and items."""
        self._journal, self._fields, self._lock = journal, Fields(spec), Lock()
        self._look_at = 0.0

    @property
    def display(self) -> list[str]:
        """Full names of the display fields."""
        return self._fields.display

    @property
    def filters(self) -> list[str]:
        """Full names of the features that items can be filtered by."""
        return self._fields.tagged

    def title(self, item: Found) -> str:
        """Return the first display field that an item has, or its id."""
        names = (name for name in self._fields.display if name not in self._fields.images)
        return next((str(item.shown[name]) for name in names if name in item.shown), item.id)

    def image(self, item: Found) -> str:
        """Return the address of an item's image; empty: it has none."""
        return next((str(item.shown[name]) for name in self._fields.images if name in item.shown), "")

    def titles(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the titles of items; of what is not there, the id."""
        found = self.of(list(dict.fromkeys(ids)))
        return {each: self.title(found[each]) if each in found else each for each in ids}

    def find(self, text: str, filters: Sequence[tuple[str, str]] = (), *, start: int = 0, count: int = 50) -> Result:
        """Return items whose id begins with a text, or that have all its words; without a text, all.

        Args:
            text: of the search.
            filters: features by full name, and a value that each must have.
            start: items that are passed over.
            count: most items to return.
        """
        tags = [_tag(name, value) for name, value in filters]
        terms = [*(f'text:"{word}"*' for word in _words(text)), *(f"tags:{tag}" for tag in tags)]
        sources = []
        by_id = {"low": text, "high": f"{text}\U0010ffff"}
        if text and not tags:
            sources.append(("FROM items WHERE id >= :low AND id < :high", "ORDER BY id"))
        if terms:  # the index of words yields rows in their order, so that no more are read than are shown
            apart = "AND NOT (id >= :low AND id < :high)" if sources else ""
            sources.append(
                (
                    f"FROM words JOIN items ON place = words.rowid WHERE words MATCH :match {apart}",
                    "ORDER BY words.rowid",
                )
            )
        if not text and not tags:
            sources.append(("FROM items", "ORDER BY place"))
        given = {**by_id, "match": " AND ".join(terms)}
        with self._lock:
            self._follow()
            items: list[Found] = []
            total = 0
            for where, order in sources:
                left = max(0, _COUNTED + 1 - total)
                (there,) = self._connection.execute(
                    f"SELECT count(*) FROM (SELECT 1 {where} LIMIT {left})", given
                ).fetchone()
                rows = self._connection.execute(
                    f"SELECT id, shown, row {where} {order} LIMIT :count OFFSET :start",
                    {**given, "count": count - len(items), "start": max(0, start - total)},
                ).fetchall()
                items += [Found(item, json.loads(shown), row) for item, shown, row in rows]
                total += there
        return Result(items, total)

    def of(self, ids: Sequence[str]) -> dict[str, Found]:
        """Return items by their ids, as far as there are such."""
        with self._lock:
            self._follow()
            marks = ", ".join("?" * len(ids))
            rows = self._connection.execute(
                f"SELECT id, shown, row FROM items WHERE id IN ({marks})", list(ids)
            ).fetchall()
        return {item: Found(item, json.loads(shown), row) for item, shown, row in rows}

    def look(self) -> None:
        """Take in what has changed with the next question, without waiting."""
        self._look_at = 0.0

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _follow(self) -> None:
        """Take in what has changed since the last look."""
        if monotonic() < self._look_at:
            return
        self._look_at = monotonic() + _LOOK_SECONDS
        (known,) = self._connection.execute("SELECT sequence FROM state").fetchone()
        if self._journal.last() > known:
            with self._connection:
                take_changes(self._connection, self._fields, self._journal, known)


class Fields:
    """Fields of items: those that are shown, and those that items can be filtered by."""

    def __init__(self, spec: FeatureSpec) -> None:
        carried = [each for each in spec.carried("item") if each.role != "label"]
        self.key = spec.item.join_key
        self.display = [each.name for each in carried if each.role == "display"]
        self.images = [each.name for each in carried if each.role == "display" and each.field in IMAGES]
        self.tagged = [each.name for each in carried if _is_tagged(each)]

    @property
    def names(self) -> list[str]:
        """All that is read."""
        return list(dict.fromkeys([*self.display, *self.tagged]))

    def shown(self, values: Mapping[str, Any]) -> str:
        """Return the display fields of an item as JSON."""
        kept = {name: values[name] for name in self.display if values.get(name) not in (None, [], "")}
        return json.dumps(kept, ensure_ascii=False, default=str)

    def text(self, values: Mapping[str, Any]) -> str:
        """Return the words of an item."""
        return " ".join(
            str(each) for name in self.display if name not in self.images for each in _all(values.get(name))
        )

    def tags(self, values: Mapping[str, Any]) -> str:
        """Return the values of an item that it can be filtered by, each as one word."""
        return " ".join(_tag(name, value) for name in self.tagged for value in _all(values.get(name)))


def build_index(record: BundleRecord, spec: FeatureSpec, journal: CatalogJournal, path: Path) -> None:
    """Write the index of a bundle's items, with all changes of the catalog since.

    Args:
        record: the bundle.
        spec: its fields.
        journal: changes of the catalog.
        path: the file; it appears when it is complete.
    """
    fields = Fields(spec)
    with new_file(path, durable=False) as part:
        part.unlink(missing_ok=True)
        connection = sqlite3.connect(part)
        connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_TABLES}")
        with connection:
            connection.execute("INSERT INTO state VALUES (0)")
            for some in _items(record.path, fields):
                connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", [each[:4] for each in some])
                connection.executemany(
                    "INSERT INTO words (rowid, text, tags) VALUES (?, ?, ?)", [(each[0], *each[4:]) for each in some]
                )
            take_changes(connection, fields, journal, 0)
        connection.close()


def take_changes(connection: sqlite3.Connection, fields: Fields, journal: CatalogJournal, after: int) -> None:
    """Bring an index up to date with the changes behind a number."""
    last = after
    for entry in journal.newest(after):
        last = entry.sequence
        found = connection.execute("SELECT place, row FROM items WHERE id = ?", (entry.item_id,)).fetchone()
        place, row = found or (None, None)
        if place is not None:
            connection.execute("DELETE FROM words WHERE rowid = ?", (place,))
            connection.execute("DELETE FROM items WHERE place = ?", (place,))
        if entry.features is None:
            continue
        values = json.loads(entry.features)
        place = connection.execute(
            "INSERT INTO items VALUES (?, ?, ?, ?)", (place, entry.item_id, fields.shown(values), row)
        ).lastrowid
        connection.execute(
            "INSERT INTO words (rowid, text, tags) VALUES (?, ?, ?)", (place, fields.text(values), fields.tags(values))
        )
    connection.execute("UPDATE state SET sequence = max(sequence, ?)", (last,))


def _items(bundle: Path, fields: Fields) -> Iterator[list[tuple[int, str, str, int, str, str]]]:
    """Yield the items of a bundle, some at a time: place, id, display fields, row, words, tags."""
    table = pq.ParquetFile(bundle / files.ITEMS)
    total = table.metadata.num_rows
    places = np.arange(total)
    if (popularity := bundle / files.POPULARITY).exists():
        places = np.empty(total, np.int64)
        places[np.argsort(-np.load(popularity), kind="stable")] = np.arange(total)
    there = set(table.schema_arrow.names)
    start = 0
    for batch in table.iter_batches(_BATCH, columns=[fields.key, *(name for name in fields.names if name in there)]):
        rows = batch.to_pylist()
        yield [
            (
                int(places[start + i]) + 1,
                str(values[fields.key]),
                fields.shown(values),
                start + i,
                fields.text(values),
                fields.tags(values),
            )
            for i, values in enumerate(rows)
        ]
        start += len(rows)


def _is_tagged(field: FieldSpec) -> bool:
    return field.type.element in ("String", "Int64", "Int32", "Bool") and field.role != "display"


def _all(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value[:_MOST_VALUES]) if isinstance(value, list) else [value]


def _tag(name: str, value: Any) -> str:
    """Return a word that stands for a feature's value."""
    text = str(int(value) if isinstance(value, bool) else value).strip().casefold()[:_LONGEST]
    return f"t{blake2b(f'{name}={text}'.encode(), digest_size=8).hexdigest()}"


def _words(text: str) -> list[str]:
    """Return the words of a search, without what the index's language would read as a sign."""
    return "".join(c if c.isalnum() else " " for c in text).split()[:12]
