"""Events of a dataset's users beside their histories: unwanted ones, and those with items that were only seen.

They are no targets and in no history. What a target's user had put aside by then is an explicit negative, or has been seen.
Shapes: A events aside, B users, P pairs of a user and an item.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from rf_platform.dataset.array_file import ArrayFile
from rf_platform.features.meanings import Rules, meaning_sql

_DTYPES = {"first": np.int64, "until": np.int64, "item": np.int32, "unwanted": np.bool_}
_PREFIX = "aside_"
_ROWS_AT_ONCE = 1_000_000


@dataclass(frozen=True, eq=False)
class Aside:
    """Events aside, memory-mapped; places are rows of the dataset's events, of which a user's lie together."""

    first: npt.NDArray[np.int64]
    """[A], rising: the user's first event that happened later. Events aside with no such are left out: nothing follows them."""
    until: npt.NDArray[np.int64]
    """[A]: from ``first`` on, the user's first event with the same item, or the end of the user's events."""
    item: npt.NDArray[np.int32]
    """[A]: row in :attr:`~rf_platform.dataset.dataset.Dataset.item_ids`."""
    unwanted: npt.NDArray[np.bool_]
    """[A]: whether the item was not wanted, or only seen."""

    @classmethod
    def open(cls, directory: Path) -> "Aside | None":
        """Memory-map the arrays of a dataset version; None where all of its events are wanted."""
        if not (directory / f"{_PREFIX}first.npy").exists():
            return None
        return cls(**{f.name: np.load(directory / f"{_PREFIX}{f.name}.npy", mmap_mode="r") for f in fields(cls)})

    def seen(
        self, starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return what users had put aside before an event: place among the users [P] and item [P], some pairs more than once.

        Args:
            starts: [B]: first event of each user.
            stops: [B]: the event.
        """
        low, high = np.searchsorted(self.first, starts), np.searchsorted(self.first, stops, side="right")
        counts = np.maximum(high - low, 0)
        row = np.repeat(np.arange(len(starts), dtype=np.int64), counts)
        place = np.arange(len(row)) + np.repeat(low - (np.cumsum(counts) - counts), counts)
        return row, np.asarray(self.item[place], np.int64)

    def draw(
        self, starts: npt.NDArray[np.int64], events: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """Draw for each event one of the items that its user had put aside by then; -1 for none.

        None is returned as well if the item that was drawn was only seen, or wanted again since.

        Args:
            starts: [B]: first event of the user of each event.
            events: [B]: the events.
            rng: draws.
        """
        low, high = np.searchsorted(self.first, starts), np.searchsorted(self.first, events, side="right")
        place = low + (rng.random(len(events)) * (high - low)).astype(np.int64)
        found = np.full(len(events), -1, np.int64)
        some = np.flatnonzero(high > low)
        place = place[some]
        good = self.unwanted[place] & (events[some] < self.until[place])
        found[some[good]] = self.item[place[good]]
        return found


def write_aside(db: duckdb.DuckDBPyConnection, directory: Path) -> None:
    """Write the arrays, some rows at a time.

    Args:
        db: has the events in ``log``, and those aside in ``aside``; see :func:`aside_sql`.
        directory: where the files go.
    """
    # Of events of one moment the order says little: only what is later counts as later.
    db.execute(
        """CREATE TABLE aside_placed AS
        WITH moments AS (SELECT "user", event_timestamp, min(event) AS event FROM log GROUP BY ALL),
        ends AS (SELECT "user", max(event) + 1 AS stop FROM log GROUP BY "user"),
        placed AS (
            SELECT DISTINCT a."user", a.item, a.unwanted, m.event AS first
            FROM aside a ASOF JOIN moments m ON a."user" = m."user" AND a.event_timestamp < m.event_timestamp),
        kept AS (  -- an item is seen once and for all
            SELECT * FROM placed
            QUALIFY unwanted OR row_number() OVER (PARTITION BY "user", item, unwanted ORDER BY first) = 1)
        SELECT k.first, coalesce(l.event, e.stop) AS until, k.item, k.unwanted
        FROM kept k JOIN ends e USING ("user")
        ASOF LEFT JOIN log l ON k."user" = l."user" AND k.item = l.item AND k.first <= l.event
        ORDER BY k.first, k.item, k.unwanted"""
    )
    row = db.execute("SELECT count(*) FROM aside_placed").fetchone()
    count = row[0] if row else 0
    for name, dtype in _DTYPES.items():
        with ArrayFile(directory / f"{_PREFIX}{name}.npy", dtype, (count,)) as file:
            query = f"SELECT {name} FROM aside_placed ORDER BY first, item, unwanted"
            for batch in db.execute(query).to_arrow_reader(_ROWS_AT_ONCE):
                values: npt.NDArray[Any] = batch[name].to_numpy(zero_copy_only=False)
                file.write(values)


def aside_sql(rules: Rules, relation: str, user: str, item: str) -> str:
    """Return a query over the events aside: ``user`` and ``item`` as numbers, ``event_timestamp``, ``unwanted``.

    Args:
        rules: what events mean.
        relation: all interactions, as they stand behind FROM.
        user: SQL of the user's id, of a relation ``l``.
        item: the same of the item.
    """
    return f"""
        SELECT u."user", i.item, l.event_timestamp::TIMESTAMPTZ AS event_timestamp, l.meaning = 'unwanted' AS unwanted
        FROM (SELECT *, {meaning_sql(rules, "m.")} AS meaning FROM {relation} AS m) l
        JOIN user_index u ON u.id = {user} JOIN item_index i ON i.id = {item}
        WHERE l.meaning IN ('unwanted', 'seen')"""
