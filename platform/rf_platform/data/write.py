"""Write the tables of an import: Parquet with fixed types, order and row groups, so that equal input gives equal bytes."""

import hashlib
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.data.specs import TableName, TableSpec
from rf_platform.data.stage import EVENT_TIME, INPUT_ORDER, staged
from rf_platform.sql import identifier

_ROW_GROUP = 131_072
_ORDER: dict[TableName, str] = {
    "interactions": f"user_id, {EVENT_TIME}, {INPUT_ORDER}",
    "items": f"item_id, {EVENT_TIME}",
    "users": f"user_id, {EVENT_TIME}",
}
QUARANTINE = "quarantine.parquet"


def write_table(connection: duckdb.DuckDBPyConnection, spec: TableSpec, directory: Path) -> int:
    """Write ``<table>.parquet`` from the staged rows and return their number."""
    columns = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in spec.outputs.items())
    query = f"SELECT {columns} FROM {identifier(staged(spec.table))} ORDER BY {_ORDER[spec.table]}"
    return _write(connection, query, directory / f"{spec.table}.parquet")


def write_bare_items(connection: duckdb.DuckDBPyConnection, directory: Path) -> int:
    """Write an items table of ids alone, for a source that describes no items."""
    query = (
        f"SELECT DISTINCT item_id, make_timestamptz(0) AS {EVENT_TIME} FROM {identifier(staged('interactions'))} "
        f"ORDER BY item_id"
    )
    return _write(connection, query, directory / "items.parquet")


def write_quarantine(connection: duckdb.DuckDBPyConnection, file_names: list[str], directory: Path) -> int:
    """Write the bad rows (file, row, column, reason, detail, record) in the order of files and rows."""
    connection.register(
        "file_names", pa.table({"file": pa.array(range(len(file_names)), pa.int32()), "name": file_names})
    )
    query = (
        'SELECT name AS file, "row", "column", reason, detail, record FROM bad JOIN file_names USING (file) '
        'ORDER BY bad.file, "row"'
    )
    rows = _write(connection, query, directory / QUARANTINE)
    connection.unregister("file_names")
    return rows


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> int:
    reader = connection.sql(query).to_arrow_reader(_ROW_GROUP)
    with TableWriter(path, reader.schema) as writer:
        for batch in reader:
            writer.write(pa.Table.from_batches([batch]))
    return writer.rows


class TableWriter:
    """Writes a table that comes in parts; the row groups of the file do not depend on the parts."""

    def __init__(self, path: Path, schema: pa.Schema | None = None) -> None:
        """Open the file; ``schema`` may be left out if there is at least one part."""
        self._path = path
        self._writer = None if schema is None else self._open(schema)
        self._waiting: list[pa.Table] = []
        self._held = 0
        self.rows = 0
        """Rows received."""

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        return pq.ParquetWriter(self._path, schema, compression="zstd")

    def __enter__(self) -> "TableWriter":
        """Return the writer."""
        return self

    def write(self, part: pa.Table) -> None:
        """Append rows; whole row groups are written at once."""
        self._writer = self._writer or self._open(part.schema)
        self._waiting.append(part)
        self._held += part.num_rows
        self.rows += part.num_rows
        if self._held >= _ROW_GROUP:
            table = pa.concat_tables(self._waiting)
            whole = self._held - self._held % _ROW_GROUP
            self._writer.write_table(table.slice(0, whole), row_group_size=_ROW_GROUP)
            self._waiting, self._held = [table.slice(whole)], self._held - whole

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        """Write what is left."""
        if self._writer is not None:
            with self._writer:
                if self._held and failed is None:
                    self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=_ROW_GROUP)
