"""Input files as DuckDB relations: raw values, row numbers, nothing judged yet."""

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches

import duckdb
import pyarrow.parquet as pq

from rf_platform.data.bad_rows import BadRows
from rf_platform.data.json_reader import load_json
from rf_platform.data.specs import Field, InputFile, JsonFormat, ParquetFormat, TableSpec, TextFormat, TimeFormat
from rf_platform.data.text_reader import load_text
from rf_platform.data.text_stream import shown_bytes_sql
from rf_platform.errors import DataError
from rf_platform.failures import translated
from rf_platform.sql import identifier, literal, pattern_literal

TEXT = "TEXT"
"""Type of every column of a text file, with trimmed values; Parquet columns have DuckDB's type names."""
EMPTY = "NULL"
"""Type of a Parquet column without a single value: whatever its type is, it says nothing."""


@dataclass(frozen=True, kw_only=True)
class RawColumn:
    """One column of a raw relation."""

    sql: str
    type: str


@dataclass(frozen=True, kw_only=True)
class RawFile:
    """A loaded input file."""

    number: int
    """Number of the file within the import, from 0."""
    file: InputFile
    relation: str
    columns: dict[str, RawColumn]
    rows: int
    """All data rows, broken ones included."""
    undecodable: bool
    null_values: tuple[str, ...]
    swallowing: tuple[int, ...] = ()
    """See :attr:`rf_platform.data.text_reader.LoadedText.swallowing`."""
    time_formats: dict[str, TimeFormat] = field(default_factory=dict)
    """Formats of times in this file, by field, where they were inferred: files of one table may differ."""

    row: str = '"row"'
    """SQL of the 1-based data row number."""
    line: str | None = None
    """SQL of the whole row as JSON text, where the file has it."""

    @property
    def record(self) -> str:
        """SQL of the whole row as JSON text, under the file's own column names."""
        if self.line is not None:
            return self.line
        parts = (f"{literal(name)}, {self._json_value(column)}" for name, column in self.columns.items())
        return f"CAST(json_object({', '.join(parts)}) AS VARCHAR)"

    def _json_value(self, column: RawColumn) -> str:
        if column.type == TEXT and self.undecodable:
            return shown_bytes_sql(column.sql)
        if column.type in (TEXT, "VARCHAR", "VARCHAR[]", "BOOLEAN") or "INT" in column.type:
            return column.sql
        if column.type in ("DOUBLE", "FLOAT"):  # JSON has no NaN
            return (
                f"CASE WHEN isfinite({column.sql}) THEN to_json({column.sql}) "
                f"ELSE to_json(CAST({column.sql} AS VARCHAR)) END"
            )
        return f"CAST({column.sql} AS VARCHAR)"

    def column(self, field: Field) -> RawColumn:
        """Return the column a field is read from.

        Raises:
            DataError: the file has no such column.
        """
        if field.column in self.columns:
            return self.columns[field.column]
        names = list(self.columns)
        near = get_close_matches(field.column, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if len(names) == 1 and (other := next((d for d in ";\t|," if d in names[0]), None)):
            hint = f"; it looks as if its delimiter were {other!r}"
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise DataError(
            f"{self.file.name}: missing column {field.column!r}, from which {field.name} is read (the file has: {shown}){hint}"
        )


def load_file(
    connection: duckdb.DuckDBPyConnection,
    table: TableSpec,
    file: InputFile,
    number: int,
    bad: BadRows,
    consumed: Callable[[int], None],
    *,
    everything: bool = False,
) -> RawFile:
    """Make a file readable as a relation; ``everything``: all of its columns, where a format reads only those that are needed.

    Raises:
        DataError: the file is empty, damaged, or lacks a column the table needs.
    """
    relation = f"raw_{number}"
    wanted = {name for f in table.fields for name in (f.column, f.fallback) if name is not None}
    asked = None if everything else wanted
    if isinstance(table.format, ParquetFormat):
        columns, rows = _view_parquet(connection, relation, file, wanted)
        raw = RawFile(
            number=number,
            file=file,
            relation=relation,
            columns=columns,
            rows=rows,
            undecodable=False,
            null_values=(),
            row="(file_row + 1)",
        )
    elif isinstance(table.format, JsonFormat):
        loaded = load_json(connection, relation, file, number, table.format, asked, bad, consumed)
        raw = RawFile(
            number=number,
            file=file,
            relation=relation,
            columns={name: RawColumn(sql=sql, type=kind or EMPTY) for name, (sql, kind) in loaded.columns.items()},
            rows=loaded.rows,
            undecodable=loaded.undecodable,
            null_values=table.format.null_values,
            line="line",
        )
    else:
        raw = _load_text(connection, relation, file, number, table.format, bad, consumed)
    for needed in table.fields:
        raw.column(needed)
    return raw


def _load_text(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    file: InputFile,
    number: int,
    layout: TextFormat,
    bad: BadRows,
    consumed: Callable[[int], None],
) -> RawFile:
    loaded = load_text(connection, relation, file, number, layout, bad, consumed)
    twice = next((name for i, name in enumerate(loaded.header) if name in loaded.header[:i]), None)
    if twice is not None:
        raise DataError(f"{file.name}: two columns are called {twice!r}; rename one of them")
    return RawFile(
        number=number,
        file=file,
        relation=relation,
        columns={name: RawColumn(sql=f"c{i}", type=TEXT) for i, name in enumerate(loaded.header)},
        rows=loaded.rows,
        undecodable=loaded.undecodable,
        swallowing=loaded.swallowing,
        null_values=layout.null_values,
    )


def _view_parquet(
    connection: duckdb.DuckDBPyConnection, relation: str, file: InputFile, needed: set[str]
) -> tuple[dict[str, RawColumn], int]:
    source = f"read_parquet({pattern_literal(file.path)}, hive_partitioning = false)"
    with translated(f"{file.name} is not a readable Parquet file", "deliver it again", DataError):
        names = pq.read_schema(file.path).names
        # DuckDB takes names that differ in case only for one, and renames the second: columns go by their place.
        described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
        # Its own number of a row hides behind a column of that name.
        taken = any(name.lower() == "file_row_number" for name in names)
        row = "row_number() OVER () - 1" if taken else "file_row_number"
        listed = ", ".join(f"{identifier(d[0])} AS c{i}" for i, d in enumerate(described))
        connection.execute(f"CREATE VIEW {identifier(relation)} AS SELECT {listed}, {row} AS file_row FROM {source}")
        read = [i for i, name in enumerate(names) if name in needed]
        counted = connection.execute(
            f"SELECT count(*){''.join(f', count(c{i})' for i in read)} FROM {identifier(relation)}"
        ).fetchone()
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise DataError(f"{file.name}: two columns are called {twice!r}; rename one of them")
    rows, *values = (int(n) for n in counted or (0,))
    if rows == 0:
        raise DataError(f"{file.name} is empty: it has no data rows")
    empty = {i for i, n in zip(read, values, strict=True) if n == 0}
    return {
        name: RawColumn(sql=f"c{i}", type=EMPTY if i in empty else described[i][1]) for i, name in enumerate(names)
    }, rows
