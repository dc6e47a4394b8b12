"""Text files into DuckDB: every column as text, every record with its row number, broken records set aside.

Arrow's CSV reader is used rather than DuckDB's because it says which record is broken (on one thread it numbers them), also
in files with mixed line ends or line breaks inside quotes.
"""

import csv
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

from rf_platform.data.bad_rows import BadRows, Malformed, Reason
from rf_platform.data.specs import InputFile, TextFormat
from rf_platform.data.text_stream import TextStream
from rf_platform.errors import DataError
from rf_platform.sql import identifier, literal

_BLOCK_BYTES = 8 << 20
_NO_DELIMITER = "\x01"
_MOST_MALFORMED = 1_000_000


@dataclass(frozen=True, kw_only=True)
class LoadedText:
    """What came out of a text file."""

    header: tuple[str, ...]
    """Column names; column ``i`` of the relation is called ``c<i>``."""
    rows: int
    """Records in the file, broken ones included, without the header and without empty lines."""
    undecodable: bool
    """Some bytes were not text in the file's encoding; see :data:`rf_platform.data.text_stream.UNDECODABLE`."""


def load_text(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    file: InputFile,
    number: int,
    layout: TextFormat,
    bad: BadRows,
    consumed: Callable[[int], None],
) -> LoadedText:
    """Create ``relation`` with the columns ``row`` (1-based data row number), ``c0``, ``c1``, ... as text.

    Records with too few or too many fields go to ``bad`` under the file's ``number``; ``consumed`` is told about bytes read.

    Raises:
        DataError: the file is empty, a quote is never closed, or the file cannot be read at all.
    """
    header = layout.header or _read_header(file, layout)
    # A delimiter of several characters: read whole lines, let DuckDB split them.
    whole_lines = layout.splits_lines
    columns = ["line"] if whole_lines else [f"c{i}" for i in range(len(header))]
    target = f"{relation}_lines" if whole_lines else relation
    connection.execute(
        f'CREATE TABLE {identifier(target)} ("row" BIGINT, {", ".join(f"{identifier(c)} VARCHAR" for c in columns)})'
    )
    with TextStream(file.path, layout.encoding, layout.quote, consumed) as stream:
        rows = _Loading(connection, target, columns, file, layout).run(stream, number, bad)
    if rows == 0:
        raise DataError(f"{file.name} is empty: it has no data rows")
    if stream.open_quote:
        _check_last_quote(connection, target, columns, file)
    if whole_lines:
        _split_lines(connection, target, relation, number, len(header), layout.delimiter, bad)
    return LoadedText(header=header, rows=rows, undecodable=stream.undecodable)


def _read_header(file: InputFile, layout: TextFormat) -> tuple[str, ...]:
    try:
        with TextStream(file.path, layout.encoding, None, lambda _: None) as stream:
            start = stream.read(1 << 20).decode()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file.name} cannot be read: {error}") from error
    if not start:
        raise DataError(f"{file.name} is empty: it has not even a header line")
    if layout.splits_lines:
        return tuple(name.strip() for name in start.splitlines()[0].split(layout.delimiter))
    text = io.StringIO(start, newline="")
    reader = csv.reader(
        text,
        delimiter=layout.delimiter,
        quotechar=layout.quote,
        quoting=csv.QUOTE_NONE if layout.quote is None else csv.QUOTE_MINIMAL,
    )
    try:
        header = tuple(name.strip() for name in next(reader))
    except csv.Error as error:
        raise DataError(f"{file.name}: the header line cannot be read: {error}") from error
    if not text.read().strip("\r\n"):
        raise DataError(f"{file.name} is empty: it has a header line and no data rows")
    return header


@dataclass
class _Loading:
    """One pass over a file with Arrow's reader."""

    connection: duckdb.DuckDBPyConnection
    target: str
    columns: list[str]
    file: InputFile
    layout: TextFormat
    malformed: list[Malformed] = field(default_factory=list)
    refusal: str | None = None
    """Why the whole file is refused; set inside Arrow's callback, which cannot raise."""

    def run(self, stream: TextStream, number: int, bad: BadRows) -> int:
        """Fill the table batch by batch and return the number of records."""
        row = 1
        try:
            for batch in self._open(stream):
                numbers = _row_numbers(row, batch.num_rows, self.malformed)
                row = int(numbers[-1]) + 1 if len(numbers) else row
                numbered = pa.Table.from_arrays([pa.array(numbers), *batch.columns], names=["row", *self.columns])
                self.connection.register("batch", numbered)
                self.connection.execute(f"INSERT INTO {identifier(self.target)} SELECT * FROM batch")
                self.connection.unregister("batch")
        except pa.ArrowInvalid as error:
            if "straddling" in str(error):
                self.refusal = (
                    f"row {row} or soon after: a record is longer than {_BLOCK_BYTES >> 20} MB; is a quote left open?"
                )
            raise DataError(f"{self.file.name}, {self.refusal or f'cannot be read as text: {error}'}") from error
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self.file.name} cannot be read: {error}") from error
        bad.add_malformed(number, self.malformed)
        return max(row - 1, self.malformed[-1].row if self.malformed else 0)

    def _open(self, stream: TextStream) -> pc.CSVStreamingReader:
        header_lines = int(self.layout.header is None)
        return pc.open_csv(
            stream,
            read_options=pc.ReadOptions(
                use_threads=False,
                block_size=_BLOCK_BYTES,
                column_names=self.columns,
                skip_rows_after_names=header_lines,
            ),
            parse_options=pc.ParseOptions(
                delimiter=_NO_DELIMITER if self.layout.splits_lines else self.layout.delimiter,
                quote_char=self.layout.quote or False,
                newlines_in_values=self.layout.quote is not None,
                invalid_row_handler=lambda record: self._set_aside(record, record.number - header_lines),
            ),
            convert_options=pc.ConvertOptions(
                column_types=dict.fromkeys(self.columns, pa.string()), strings_can_be_null=False
            ),
        )

    def _set_aside(self, record: pc.InvalidRow, row: int) -> str:
        if self.layout.quote and record.text.count(self.layout.quote) % 2 and "\n" in record.text:
            self.refusal = _never_closed(row)
            return "error"
        if len(self.malformed) == _MOST_MALFORMED:
            self.refusal = (
                f"row {row}: {_MOST_MALFORMED:,} rows before have a wrong number of fields; is the delimiter right?"
            )
            return "error"
        detail = f"{record.actual_columns} instead of {record.expected_columns}"
        self.malformed.append(Malformed(row=row, detail=detail, text=record.text))
        return "skip"


def _row_numbers(first: int, count: int, broken: list[Malformed]) -> np.ndarray:
    """Return the next ``count`` row numbers from ``first`` on that are not those of broken records."""
    taken = np.asarray([m.row for m in broken if m.row >= first], np.int64)
    numbers = np.arange(first, first + count + len(taken))
    return np.setdiff1d(numbers, taken, assume_unique=True)[:count]


def _split_lines(
    connection: duckdb.DuckDBPyConnection,
    lines: str,
    relation: str,
    number: int,
    width: int,
    delimiter: str,
    bad: BadRows,
) -> None:
    split = f'(SELECT "row", line, string_split(line, {literal(delimiter)}) AS parts FROM {identifier(lines)})'
    columns = ", ".join(f"parts[{i + 1}] AS c{i}" for i in range(width))
    connection.execute(
        f'CREATE VIEW {identifier(relation)} AS SELECT "row", {columns} FROM {split} WHERE len(parts) = {width}'
    )
    bad.add(
        f'SELECT {number} AS file, "row", {literal(Reason.FIELD_COUNT)} AS reason, '
        f"len(parts) || ' instead of {width}' AS detail, line AS \"value\", json_object('text', line) AS record "
        f"FROM {split} WHERE len(parts) <> {width}"
    )


def _check_last_quote(
    connection: duckdb.DuckDBPyConnection, relation: str, columns: list[str], file: InputFile
) -> None:
    """Refuse a file whose last record swallowed the lines after a quote that is never closed."""
    breaks = " OR ".join(f"contains({identifier(c)}, chr(10))" for c in columns)
    found = connection.execute(
        f'SELECT "row" FROM {identifier(relation)} WHERE "row" = (SELECT max("row") FROM {identifier(relation)}) AND ({breaks})'
    ).fetchone()
    if found:
        raise DataError(f"{file.name}, {_never_closed(found[0])}")


def _never_closed(row: int) -> str:
    return f"row {row}: a quote is opened and never closed, so the rest of the file cannot be read"
