"""Vectors of texts that were encoded before, on disk by the hash of the text, shared by the processes of a workspace.

Losing it costs time and nothing else: what cannot be read is encoded again.
"""

import sqlite3
import time
import zlib
from collections.abc import Callable, Mapping, Sequence, Sized
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
T = TypeVar("T")
_TABLE = (
    "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL, sum INTEGER NOT NULL, "
    "used INTEGER NOT NULL)"
)
_KEYS_AT_ONCE = 500
_FULL = 0.8
"""Share of the bound that is left when the least recently used vectors have gone."""
_DAY = 86_400
_WAIT = 5.0


@dataclass(frozen=True)
class VectorCache:
    """Vectors of one encoder."""

    path: Path
    """SQLite database; made when it is first written to."""
    bound: int
    """Most bytes that it may take, beside what is put in at once; 0 keeps nothing."""

    @property
    def crowded(self) -> bool:
        """Whether vectors had to go already, or soon will."""
        return self.path.exists() and self.path.stat().st_size > self.bound * _FULL

    def get(self, texts: Sequence[str]) -> dict[str, Vector]:
        """Return the vectors that are there and undamaged."""
        return self._use(lambda db: _read(db, texts), {}) if self.path.exists() else {}

    def put(self, vectors: Mapping[str, Vector]) -> None:
        """Keep vectors, in place of damaged ones too; the least recently used go where there are too many."""
        if not self.bound:
            return
        with suppress(OSError):  # a full or read-only disk costs time only
            self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = [(_key(text), vector.astype(np.float32).tobytes()) for text, vector in vectors.items()]
        entries = [(key, data, zlib.crc32(key + data), _today()) for key, data in rows]

        def write(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", entries)
            self._shrink(db)
            db.commit()

        self._use(write, None)

    def _shrink(self, db: sqlite3.Connection) -> None:
        pages, free, size = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * size <= self.bound:
            return
        (count,) = db.execute("SELECT count(*) FROM vectors").fetchone()
        gone = count - int(count * _FULL * self.bound / ((pages - free) * size))
        db.execute("DELETE FROM vectors WHERE key IN (SELECT key FROM vectors ORDER BY used, rowid LIMIT ?)", [gone])

    def _use(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Work with the database; a damaged one is made anew, and one that is locked or cannot be written is done without."""
        for _ in range(2):
            try:
                with closing(sqlite3.connect(self.path, timeout=_WAIT)) as db:
                    db.execute(
                        "PRAGMA page_size = 16384"
                    )  # of a new database; a vector fills a quarter of the usual page
                    db.execute("PRAGMA journal_mode = WAL")
                    db.execute("PRAGMA synchronous = NORMAL")
                    db.execute(_TABLE)
                    return work(db)
            except sqlite3.OperationalError:
                return otherwise
            except sqlite3.DatabaseError:
                for suffix in ("", "-wal", "-shm"):
                    with suppress(OSError):
                        self.path.with_name(self.path.name + suffix).unlink()
        return otherwise


def _read(db: sqlite3.Connection, texts: Sequence[str]) -> dict[str, Vector]:
    found: dict[str, Vector] = {}
    for start in range(0, len(texts), _KEYS_AT_ONCE):
        keys = {_key(text): text for text in texts[start : start + _KEYS_AT_ONCE]}
        query = f"SELECT key, vector, sum, used FROM vectors WHERE key IN ({_marks(keys)})"
        stale = []
        for key, vector, total, used in db.execute(query, list(keys)):
            if total == zlib.crc32(key + vector):
                found[keys[key]] = np.frombuffer(vector, np.float32)
                stale += [key] if used != _today() else []
        if stale:
            db.execute(f"UPDATE vectors SET used = ? WHERE key IN ({_marks(stale)})", [_today(), *stale])
            db.commit()
    return found


def _marks(values: Sized) -> str:
    return ",".join("?" * len(values))


def _today() -> int:
    return int(time.time()) // _DAY


def _key(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()
