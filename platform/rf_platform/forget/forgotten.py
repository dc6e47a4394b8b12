"""List of the users who were forgotten: digests of their ids, each with the time; what is older than that stays out.

It is written before anything is removed, so an erasure that is interrupted is completed by the next one, and rows that come back
with an import, or that a server still had in memory, are left out. A user may come back: what is newer counts.
"""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rf_platform.failures import reading
from rf_platform.features.expiry import now_us
from rf_platform.files import new_file, replace_text
from rf_platform.locks import locked
from rf_platform.workspace import Workspace

_FORMAT = 1


def digest(user_id: object) -> str:
    """Return the digest of a user's id, as text."""
    return hashlib.sha256(str(user_id).encode()).hexdigest()


class Forgotten:
    """The list of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._path = workspace.root / "forgotten.json"
        self._stamp: tuple[int, int] | None = None
        self._known: dict[str, int] = {}

    def users(self) -> dict[str, int]:
        """Return the time of each digest, in microseconds since 1970; the file is read again only if it has changed.

        Raises:
            CorruptError: it cannot be read.
        """
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return {}
        if (stamp := (found.st_ino, found.st_mtime_ns)) != self._stamp:
            with reading(self._path, "restore it: without it, users who were forgotten come back with an import"):
                said = json.loads(self._path.read_text())
                self._known = {str(name): int(time) for name, time in said["users"].items()}
            self._stamp = stamp
        return self._known

    def add(self, user_id: str, at_us: int | None = None) -> int:
        """Put a user on the list, on disk when this returns, and return the time."""
        at_us = now_us() if at_us is None else at_us
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._path.with_suffix(".lock")):
            users = {**self.users(), digest(user_id): at_us}
            replace_text(self._path, json.dumps({"format": _FORMAT, "users": users}, indent=2, sort_keys=True) + "\n")
        return at_us

    def without(self, table: pa.Table, user: str, time: str | None = None) -> pa.Table:
        """Return a table without the rows of forgotten users up to the time of that.

        Args:
            table: any table.
            user: its column with user ids.
            time: its column of times; None: all rows of these users go.
        """
        users = self.users()
        if not users or not table.num_rows:
            return table
        ids = pc.unique(table[user])
        gone = {value.as_py(): users[each] for value in ids if (each := digest(value.as_py())) in users}
        if not gone:
            return table
        keep = pa.array([True] * table.num_rows)
        for value, at_us in gone.items():
            own = pc.fill_null(pc.equal(table[user], value), False)
            if time is not None:
                own = pc.and_(
                    own, pc.less_equal(table[time].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()), at_us)
                )
            keep = pc.and_(keep, pc.invert(pc.fill_null(own, True)))
        return table.filter(keep)


def leave_out_forgotten(workspace: Workspace, tables: Path) -> None:
    """Write imported tables again without the users who were forgotten, as far as their rows are older than that.

    Args:
        workspace: has the list.
        tables: directory of the tables.
    """
    forgotten = Forgotten(workspace)
    if not forgotten.users():
        return
    for path in tables.glob("*.parquet"):
        file = pq.ParquetFile(path)
        if "user_id" not in file.schema_arrow.names:
            continue
        time = "event_timestamp" if path.name == "interactions.parquet" else None
        with (
            new_file(path, durable=False) as part,
            pq.ParquetWriter(part, file.schema_arrow, compression="zstd") as out,
        ):
            for group in range(file.num_row_groups):
                out.write_table(forgotten.without(file.read_row_group(group), "user_id", time))
