"""The part of the event log that was moved out of SQL: Parquet files, each with a range of numbers, named by a manifest.

The manifest decides what is there: files are on disk before it names them, and it is replaced as a whole. Readers hold a
shared lock; a file that the manifest no longer names is removed when no reader is left.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rf_platform.data.event_log.event import LoggedEvent
from rf_platform.errors import CorruptError
from rf_platform.files import new_file, replace_text
from rf_platform.locks import if_unlocked, locked

SEQUENCE, EVENT_ID, USER, ITEM, TIME = "__sequence", "__event_id", "__user", "__item", "__time"
"""Columns of our own; columns of the interactions table have no two underscores in a row."""
MERGED_ROWS = 1_000_000
"""Smaller files are put together, so that their number stays small."""
_ROW_GROUP = 131_072
_FORMAT = 1
_READERS = "readers.lock"


@dataclass(frozen=True)
class Part:
    """One file."""

    file: str
    first: int
    last: int
    rows: int


class EventParts:
    """The files of a workspace's event log."""

    def __init__(self, directory: Path) -> None:
        """``directory`` is there when events were recorded."""
        self._directory = directory

    @property
    def parts(self) -> list[Part]:
        """The files, oldest events first.

        Raises:
            CorruptError: the manifest cannot be read.
        """
        path = self._directory / "manifest.json"
        try:
            text = path.read_text()
        except FileNotFoundError:
            return []
        try:
            manifest = json.loads(text)
            if manifest["format"] != _FORMAT:
                raise ValueError(f"format {manifest['format']}")
            return [Part(**part) for part in manifest["parts"]]
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptError(
                f"{path} is not the manifest of an event log: {error}; restore it from a copy"
            ) from error

    @property
    def sealed(self) -> int:
        """Number of the last event in the files; 0 if there are none."""
        return max((part.last for part in self.parts), default=0)

    @contextmanager
    def reading(self) -> Iterator[list[Path]]:
        """Yield the files, under a shared lock while the block runs."""
        if not self._directory.is_dir():
            yield []
            return
        with locked(self._directory / _READERS, shared=True):
            yield [self._directory / part.file for part in self.parts]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the writer lock of the directory while the block runs."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with locked(self._directory / "writer.lock"):
            yield

    def add(self, events: Sequence[LoggedEvent]) -> None:
        """Write a file of events that follow the last one there is, and name it in the manifest; needs :meth:`writing`."""
        parts = self.parts
        table, merged = events_table(events), None
        if parts and parts[-1].rows + len(events) <= MERGED_ROWS:
            merged = parts.pop()
            old = pq.read_table(self._directory / merged.file)
            table = pa.concat_tables([old, table], promote_options="permissive")
        first, newest = events[0].sequence, events[-1].sequence
        if merged is not None:
            first = merged.first
        part = Part(f"events-{first:015d}-{newest:015d}.parquet", first, newest, table.num_rows)
        with new_file(self._directory / part.file) as file:
            pq.write_table(table, file, compression="zstd", row_group_size=_ROW_GROUP)
        manifest = {"format": _FORMAT, "parts": [asdict(each) for each in (*parts, part)]}
        replace_text(self._directory / "manifest.json", json.dumps(manifest, indent=2) + "\n")
        if_unlocked(self._directory / _READERS, self._remove_unnamed, os.O_CREAT)  # else the next one that adds does it

    def forget(self, user_id: str) -> int:
        """Write the files that have events of a user again without them; needs :meth:`writing`. Returns how many these were.

        The ranges of numbers stay: what is gone counts as moved.
        """
        removed, parts = 0, self.parts
        for place, part in enumerate(parts):
            table = pq.read_table(self._directory / part.file)
            kept = table.filter(pc.not_equal(table[USER], user_id))
            if kept.num_rows == table.num_rows:
                continue
            name = f"events-{part.first:015d}-{part.last:015d}-{uuid4().hex[:8]}.parquet"
            with new_file(self._directory / name) as file:
                pq.write_table(kept, file, compression="zstd", row_group_size=_ROW_GROUP)
            removed += table.num_rows - kept.num_rows
            parts[place] = Part(name, part.first, part.last, kept.num_rows)
        if removed:
            manifest = {"format": _FORMAT, "parts": [asdict(each) for each in parts]}
            replace_text(self._directory / "manifest.json", json.dumps(manifest, indent=2) + "\n")
        if_unlocked(self._directory / _READERS, self._remove_unnamed, os.O_CREAT)
        return removed

    def _remove_unnamed(self, _: Path) -> None:
        named = {part.file for part in self.parts}
        for path in (*self._directory.glob("events-*.parquet"), *self._directory.glob(".events-*")):
            if path.name not in named:
                path.unlink()


def events_table(events: Sequence[LoggedEvent]) -> pa.Table:
    """Return events in the form of the files: columns of our own, and one for each value that any event has."""
    names = sorted({name for event in events for name in event.values})
    return pa.table(
        {
            SEQUENCE: pa.array([e.sequence for e in events], pa.int64()),
            EVENT_ID: pa.array([e.event_id for e in events], pa.string()),
            USER: pa.array([e.user_id for e in events], pa.string()),
            ITEM: pa.array([e.item_id for e in events], pa.string()),
            TIME: pa.array([e.timestamp_us for e in events], pa.int64()).cast(pa.timestamp("us", tz="UTC")),
            **{name: pa.array([e.values.get(name) for e in events]) for name in names},
        }
    )
