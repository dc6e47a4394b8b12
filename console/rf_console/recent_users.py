"""Users who were there last: those of the serving log, of the event log, then of the imported interactions."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from threading import Lock
from time import monotonic

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rf_platform.data.event_log.log import EventLog
from rf_platform.failures import as_rf_error
from rf_platform.serving_log import ServingParts
from rf_platform.settings import Settings

MOST = 200
"""Users that are found, at most."""
_KEPT_SECONDS = 60.0
_EVENTS = 5_000
_FILES, _ROW_GROUPS = 8, 4
"""Files of the serving log, and row groups of the table of interactions, that are read at most."""
_TIME = "event_timestamp"


class RecentUsers:
    """Finds users who were there last, and keeps what it found for a minute; safe from any thread.

    Args:
        settings: of the workspace.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._lock = settings, Lock()
        self._found: dict[str, tuple[float, list[str]]] = {}

    def ids(self, key: str) -> list[str]:
        """Return ids, the latest first, at most :data:`MOST`.

        Args:
            key: column of the user in the interactions.
        """
        with self._lock:
            if key not in self._found or monotonic() > self._found[key][0]:
                found = list(islice(dict.fromkeys(self._all(key)), MOST))
                self._found[key] = (monotonic() + _KEPT_SECONDS, found)
            return self._found[key][1]

    def _all(self, key: str) -> Iterator[str]:
        for each in (self._logged(), self._recorded(), self._imported(key)):
            try:
                yield from each
            except Exception as error:  # one that cannot be read leaves the others
                if as_rf_error(error, about="recent users") is None:
                    raise

    def _logged(self) -> Iterator[str]:
        for part in reversed(ServingParts(self._settings.workspace.serving_log).parts()[-_FILES:]):
            with suppress(FileNotFoundError):  # removed by retention
                table = pq.read_table(part.path, columns=["time", "user_id"])
                yield from _latest(table, "user_id", "time")

    def _recorded(self) -> Iterator[str]:
        log = EventLog.existing(self._settings)
        if log is None:
            return
        try:
            events = log.read(max(0, log.head() - _EVENTS), _EVENTS)
        finally:
            log.close()
        yield from (each.user_id for each in sorted(events, key=lambda event: -event.timestamp_us))

    def _imported(self, key: str) -> Iterator[str]:
        path = self._settings.workspace.tables / "interactions.parquet"
        if not path.is_file():
            return
        with pq.ParquetFile(path) as file:
            groups = sorted(range(file.metadata.num_row_groups), key=lambda group: _newest(file, group), reverse=True)
            table = file.read_row_groups(groups[:_ROW_GROUPS], columns=[key, _TIME])
        yield from _latest(table, key, _TIME)


def _newest(file: pq.ParquetFile, group: int) -> float:
    """Return the time of the last event in a row group, as far as its statistics say."""
    metadata = file.metadata.row_group(group)
    for place in range(metadata.num_columns):
        column = metadata.column(place)
        if column.path_in_schema == _TIME and column.statistics is not None and column.statistics.has_min_max:
            return float(column.statistics.max.timestamp())
    return 0.0


def _latest(table: pa.Table, key: str, time: str) -> Iterator[str]:
    """Yield the users of a table, each once, the latest first."""
    table = table.filter(pc.is_valid(table[key]))
    newest = np.argsort(-table[time].cast(pa.int64()).to_numpy(), kind="stable")
    seen: set[str] = set()
    for start in range(0, len(newest), MOST):
        for user in table[key].take(pa.array(newest[start : start + MOST])).to_pylist():
            if (text := str(user)) not in seen:
                seen.add(text)
                yield text
