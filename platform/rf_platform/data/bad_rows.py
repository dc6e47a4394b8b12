"""The rows an import refuses, with the reason; kept in DuckDB, so that their number does not matter."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import duckdb
import pyarrow as pa


class Reason(StrEnum):
    """Reason a row is refused, as printed and kept."""

    FIELD_COUNT = "wrong number of fields"
    QUOTE = "stray quote"
    JSON = "not a JSON object"
    ENCODING = "not text in the file's encoding"
    NULL_KEY = "null key"
    MISSING_VALUE = "missing value"
    WRONG_TYPE = "wrong type"
    NAN = "NaN"
    OUT_OF_RANGE = "out of range"
    TOO_EARLY = "time before 1970"
    FUTURE = "time in the future"
    NOT_SORTED = "not sorted"
    DUPLICATE_EVENT = "duplicate event"
    DUPLICATE_KEY = "duplicate key"


@dataclass(frozen=True, kw_only=True)
class Malformed:
    """A record that could not even be split into the file's columns."""

    row: int
    reason: Reason
    column: str | None
    """The column at fault, if one is."""
    detail: str
    text: str


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """One refused row, for a message."""

    file: int
    row: int
    column: str | None
    reason: str
    detail: str
    value: str | None


_SCHEMA = pa.schema([("row", pa.int64()), *((name, pa.string()) for name in ("reason", "column", "detail", "text"))])


class BadRows:
    """The table ``bad``: one line per refused row (file number and 1-based data row identify it)."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Create the empty table."""
        self._connection = connection
        connection.execute(
            'CREATE TABLE bad (file INTEGER, "row" BIGINT, "column" VARCHAR, reason VARCHAR, detail VARCHAR, "value" VARCHAR, '
            "record VARCHAR)"
        )

    def add_malformed(self, file: int, rows: Sequence[Malformed]) -> None:
        """Add records that have no columns; the record is kept as its text."""
        if not rows:
            return
        batch = pa.Table.from_pylist([asdict(row) for row in rows], schema=_SCHEMA)
        self._connection.register("malformed", batch)
        self._connection.execute(
            'INSERT INTO bad SELECT ?, "row", "column", reason, detail, "text", json_object(\'text\', "text") FROM malformed',
            [file],
        )
        self._connection.unregister("malformed")

    def add(self, sql: str) -> None:
        """Add the result of a query with the table's columns."""
        self._connection.execute(f"INSERT INTO bad BY NAME {sql}")

    def first(self) -> BadRow | None:
        """Return the first refused row in the order of files and rows, or None."""
        row = self._connection.execute(
            'SELECT file, "row", "column", reason, detail, "value" FROM bad ORDER BY file, "row" LIMIT 1'
        ).fetchone()
        if row is None:
            return None
        return BadRow(file=row[0], row=row[1], column=row[2], reason=row[3], detail=row[4], value=row[5])

    def counts(self) -> dict[int, dict[str, int]]:
        """Return the number of refused rows by file number and reason, the most frequent reason first."""
        counts: dict[int, dict[str, int]] = {}
        for file, reason, number in self._connection.execute(
            "SELECT file, reason, count(*) FROM bad GROUP BY ALL ORDER BY file, count(*) DESC, reason"
        ).fetchall():
            counts.setdefault(file, {})[reason] = number
        return counts
