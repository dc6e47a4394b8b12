"""Text files into DuckDB: every column as text, every record with its row number, broken records set aside.

Arrow's CSV reader is used rather than DuckDB's because it says which record is broken (on one thread it numbers them), also
in files with mixed line ends or line breaks inside quotes.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from rf_platform.data.bad_rows import BadRows, Malformed, Reason
from rf_platform.data.records import NO_DELIMITER, STAND_IN, Records, TooLongError
from rf_platform.data.specs import InputFile, TextFormat
from rf_platform.data.text_stream import TextStream, shown_bytes
from rf_platform.errors import DataError
from rf_platform.sql import identifier, literal
from rf_platform.text import trimmed

_BLOCK_BYTES = 8 << 20
_LONGEST_RECORD = 8 << 20
_MOST_MALFORMED = 1_000_000


@dataclass(frozen=True, kw_only=True)
class LoadedText:
    """Rows of a text file as a DuckDB relation, with header and faults."""

    header: tuple[str, ...]
    """Column names; column ``i`` of the relation is called ``c<i>``."""
    rows: int
    """Records in the file, broken ones included, without the header and without empty lines."""
    undecodable: bool
    """Some bytes were not text in the file's encoding; see :data:`rf_platform.data.text_stream.UNDECODABLE`."""
    swallowing: tuple[int, ...]
    """Rows with a quoted field that holds lines like whole rows, as when quotes of two rows are taken for a pair."""


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

    Records with too few or too many fields, or with a stray quote, go to ``bad`` under the file's ``number``; ``consumed`` is
    told about bytes read.

    Raises:
        DataError: the file is empty, or cannot be read at all.
    """
    with TextStream(file.path, file.name, layout.encoding, consumed) as stream:
        records = Records(stream.blocks(_BLOCK_BYTES), layout, _LONGEST_RECORD)
        header = _header(records, file, layout)
        # A delimiter of several characters: read whole lines, let DuckDB split them.
        columns = ["line"] if layout.splits_lines else [f"c{i}" for i in range(len(header))]
        target = f"{relation}_lines" if layout.splits_lines else relation
        listed = ", ".join(f"{identifier(c)} VARCHAR" for c in columns)
        connection.execute(f'CREATE TABLE {identifier(target)} ("row" BIGINT, {listed})')
        loading = _Loading(connection, target, columns, header, file, layout)
        rows = loading.run(records, number, bad)
    if rows == 0:
        headed = "a header line and " if layout.header is None else ""
        raise DataError(f"{file.name} is empty: it has {headed}no data rows")
    if layout.splits_lines:
        _split_lines(connection, target, relation, number, len(header), layout.delimiter, bad)
    return LoadedText(header=header, rows=rows, undecodable=stream.undecodable, swallowing=tuple(loading.swallowing))


def _header(records: Records, file: InputFile, layout: TextFormat) -> tuple[str, ...]:
    """Return the names of the columns: those of the first record, those that are given, or numbers from 1."""
    if isinstance(layout.header, tuple):
        return layout.header
    headed = layout.header is None
    try:
        first = records.first(drop=headed)
    except ValueError as error:
        raise DataError(f"{file.name}: the {'header' if headed else 'first'} line cannot be read: {error}") from error
    if first is None:
        raise DataError(f"{file.name} is empty: it has not even a {'header' if headed else 'first'} line")
    if layout.splits_lines:
        first = first[0].split(layout.delimiter)
    return tuple(trimmed(name) for name in first) if headed else tuple(str(n + 1) for n in range(len(first)))


@dataclass
class _Loading:
    """One pass over a file with Arrow's reader."""

    connection: duckdb.DuckDBPyConnection
    target: str
    columns: list[str]
    header: tuple[str, ...]
    file: InputFile
    layout: TextFormat
    malformed: list[Malformed] = field(default_factory=list)
    swallowing: list[int] = field(default_factory=list)
    refusal: str | None = None
    """Reason to refuse the whole file; set inside Arrow's callback, which cannot raise."""

    def run(self, records: Records, number: int, bad: BadRows) -> int:
        """Fill the table chunk by chunk and return the number of records."""
        row, set_aside = 1, 0
        try:
            for chunk in records.chunks(len(self.columns)):
                table = self._read(chunk, row, records)
                broken = [m.row for m in self.malformed[set_aside:]]
                set_aside = len(self.malformed)
                total = table.num_rows + len(broken)
                numbers = np.setdiff1d(np.arange(row, row + total), broken, assume_unique=True)
                row += total
                self._look_for_rows_in_fields(table, numbers)
                numbered = pa.Table.from_arrays([pa.array(numbers), *table.columns], names=["row", *self.columns])
                self.connection.register("batch", numbered)
                self.connection.execute(f"INSERT INTO {identifier(self.target)} SELECT * FROM batch")
                self.connection.unregister("batch")
        except TooLongError as error:
            raise DataError(
                f"{self.file.name}, row {row} or soon after: a record is longer than {_LONGEST_RECORD >> 20} MB"
            ) from error
        except pa.ArrowInvalid as error:
            raise DataError(f"{self.file.name}, {self.refusal or f'cannot be read as text: {error}'}") from error
        bad.add_malformed(number, self.malformed)
        return row - 1

    def _look_for_rows_in_fields(self, table: pa.Table, numbers: np.ndarray) -> None:
        width = len(self.columns)
        if self.layout.quote is None or width < 3:  # a line of a text may well have one comma
            return
        like_a_row = r"[\r\n]" + re.escape(self.layout.delimiter).join([r"[^\r\n]*"] * width)
        for column in table.columns:
            if pc.any(pc.match_substring(column, "\n")).as_py():
                found = pc.match_substring_regex(column, like_a_row).to_numpy()
                self.swallowing += [int(n) for n in numbers[found]]

    def _read(self, chunk: bytes, row: int, records: Records) -> pa.Table:
        return csv.read_csv(
            pa.BufferReader(chunk),
            read_options=csv.ReadOptions(use_threads=False, block_size=len(chunk) + 1, column_names=self.columns),
            parse_options=csv.ParseOptions(
                delimiter=NO_DELIMITER.decode() if self.layout.splits_lines else self.layout.delimiter,
                quote_char=self.layout.quote or False,
                escape_char=self.layout.escape or False,
                newlines_in_values=self.layout.quote is not None or self.layout.escape is not None,
                invalid_row_handler=lambda record: self._set_aside(record, row + record.number - 1, records),
            ),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(self.columns, pa.string()),
                strings_can_be_null=False,
                check_utf8=False,  # the stream is valid UTF-8
            ),
        )

    def _set_aside(self, record: csv.InvalidRow, row: int, records: Records) -> str:
        if len(self.malformed) == _MOST_MALFORMED:
            self.refusal = f"row {row}: {_MOST_MALFORMED:,} rows before are broken; is the delimiter right?"
            return "error"
        standing = record.text.startswith(STAND_IN) and record.text[1:].split(self.layout.delimiter)[0]
        if standing and standing.isdigit() and int(standing) < len(records.broken):
            broken = records.broken[int(standing)]
            column = self.header[broken.field] if broken.field < len(self.header) else None
            self.malformed.append(
                Malformed(
                    row=row, reason=Reason.QUOTE, column=column, detail=broken.detail, text=shown_bytes(broken.text)
                )
            )
            return "skip"
        detail = f"{record.actual_columns} instead of {record.expected_columns}"
        self.malformed.append(
            Malformed(row=row, reason=Reason.FIELD_COUNT, column=None, detail=detail, text=shown_bytes(record.text))
        )
        return "skip"


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
