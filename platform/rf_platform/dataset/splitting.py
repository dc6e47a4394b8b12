"""Let a protocol split the numbered events of a build."""

from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_platform.dataset.protocols.event_log import REMOVED, TRAIN, SplitProtocol
from rf_platform.errors import DataError


class StoredLog:
    """The events of a DuckDB table in the order of its rows; a column is read when asked for."""

    def __init__(self, db: duckdb.DuckDBPyConnection, table: str) -> None:
        """``table`` has ``user``, ``item`` and ``event_timestamp``, ordered by user; every user has events."""
        self._db, self._table = db, table

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """See :class:`~rf_platform.dataset.protocols.EventLog`."""
        counts = self._column(f'SELECT count(*) AS value FROM {self._table} GROUP BY "user" ORDER BY "user"')
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @cached_property
    def item(self) -> npt.NDArray[np.int32]:
        """See :class:`~rf_platform.dataset.protocols.EventLog`."""
        return self._column(f"SELECT item AS value FROM {self._table}")

    @cached_property
    def timestamp(self) -> npt.NDArray[np.int64]:
        """See :class:`~rf_platform.dataset.protocols.EventLog`."""
        return self._column(f"SELECT epoch_us(event_timestamp) AS value FROM {self._table}")

    def _column(self, sql: str) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = self._db.execute(sql).to_arrow_table()["value"].to_numpy()
        return values


def split_events(db: duckdb.DuckDBPyConnection, protocol: SplitProtocol) -> dict[str, Any]:
    """Make the table ``log`` from ``numbered``: with the protocol's ``split``, without what it removes, numbered anew.

    Returns:
        What followed from the protocol's parameters and the data: its facts, and how many events it removed.

    Raises:
        DataError: The protocol leaves nothing to train on.
    """
    assigned = protocol.assign(StoredLog(db, "numbered"))
    if not np.any(assigned.split == TRAIN):
        raise DataError(f"the protocol {protocol.to_dict()} leaves no event to train on; choose other parameters")
    kept = assigned.split != REMOVED
    # Both tables are read in the order of their rows, so no join has to hold either of them.
    db.execute("CREATE TABLE assigned (split TINYINT, event BIGINT)")
    for start in range(0, len(kept), 1_000_000):
        stop = start + 1_000_000
        numbers = np.cumsum(kept[start:stop]) - 1 + np.count_nonzero(kept[:start])
        part = pa.table({"split": assigned.split[start:stop], "event": numbers})
        db.register("part", part)
        db.execute("INSERT INTO assigned SELECT split, event FROM part")
        db.unregister("part")
    db.execute(
        f"""CREATE TABLE log AS SELECT assigned.event, numbered.* EXCLUDE (event), assigned.split
        FROM numbered POSITIONAL JOIN assigned WHERE assigned.split <> {REMOVED}"""
    )
    db.execute("DROP TABLE numbered; DROP TABLE assigned")
    removed = int(np.count_nonzero(~kept))
    return {**assigned.facts, **({"removed_events": removed} if removed else {})}
