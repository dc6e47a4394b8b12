"""Let a protocol split the numbered events of a build."""

from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_platform.dataset.array_file import ArrayFile
from rf_platform.dataset.protocols.event_log import REMOVED, TRAIN, SplitProtocol
from rf_platform.errors import DataError

_ROWS_AT_ONCE = 1_000_000


class StoredLog:
    """The events of a DuckDB table in the order of its rows; a column that is asked for is copied to a file and mapped."""

    def __init__(self, db: duckdb.DuckDBPyConnection, table: str, directory: Path) -> None:
        """``table`` has ``user``, ``item`` and ``event_timestamp``, ordered by user; every user has events."""
        self._db, self._table, self._directory = db, table, directory

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """See :class:`~rf_platform.dataset.protocols.EventLog`."""
        sql = f'SELECT count(*) AS value FROM {self._table} GROUP BY "user" ORDER BY "user"'
        counts = self._db.execute(sql).to_arrow_table()["value"].to_numpy()
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @cached_property
    def item(self) -> npt.NDArray[np.int32]:
        """See :class:`~rf_platform.dataset.protocols.EventLog`."""
        return self._column("item", "item", np.int32)

    @cached_property
    def timestamp(self) -> npt.NDArray[np.int64]:
        """See :class:`~rf_platform.dataset.protocols.EventLog`."""
        return self._column("timestamp", "epoch_us(event_timestamp)", np.int64)

    def _column(self, name: str, sql: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        path = self._directory / f"log_{name}.npy"
        with ArrayFile(path, dtype, (int(self.offsets[-1]),)) as file:
            for batch in self._db.execute(f"SELECT {sql} AS value FROM {self._table}").to_arrow_reader(_ROWS_AT_ONCE):
                file.write(batch["value"].to_numpy())
        values: npt.NDArray[Any] = np.load(path, mmap_mode="r")
        return values


def split_events(db: duckdb.DuckDBPyConnection, protocol: SplitProtocol, directory: Path) -> dict[str, Any]:
    """Make the table ``log`` from ``numbered``: with the protocol's ``split``, without what it removes, numbered anew.

    Args:
        db: has the table ``numbered``.
        protocol: decides about every event.
        directory: takes files that are used meanwhile.

    Returns:
        What followed from the protocol's parameters and the data: its facts, and how many events it removed.

    Raises:
        DataError: The protocol leaves nothing to train on.
    """
    assigned = protocol.assign(StoredLog(db, "numbered", directory))
    if not np.any(assigned.split == TRAIN):
        raise DataError(f"the protocol {protocol.to_dict()} leaves no event to train on; choose other parameters")
    # Both tables are read in the order of their rows, so no join has to hold either of them.
    db.execute("CREATE TABLE assigned (split TINYINT, event BIGINT)")
    before = 0
    for start in range(0, len(assigned.split), _ROWS_AT_ONCE):
        split = assigned.split[start : start + _ROWS_AT_ONCE]
        numbers = before + np.cumsum(split != REMOVED)
        before = int(numbers[-1])
        part = pa.table({"split": split, "event": numbers - 1})
        db.register("part", part)
        db.execute("INSERT INTO assigned SELECT split, event FROM part")
        db.unregister("part")
    db.execute(
        f"""CREATE TABLE log AS SELECT assigned.event, numbered.* EXCLUDE (event), assigned.split
        FROM numbered POSITIONAL JOIN assigned WHERE assigned.split <> {REMOVED}"""
    )
    db.execute("DROP TABLE numbered; DROP TABLE assigned")
    removed = len(assigned.split) - before
    return {**assigned.facts, **({"removed_events": removed} if removed else {})}
