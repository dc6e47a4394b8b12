"""Description of an import source by its adapter: files, their required columns, conversion to the platform's tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from rf_platform.literals import PLAIN, Writing

TableName = Literal["interactions", "items", "users"]
TABLES: tuple[TableName, ...] = ("interactions", "items", "users")


class Kind(StrEnum):
    """Type of a column once it is read; the lists are multi-valued attributes."""

    AUTO = "auto"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    STRING = "string"
    TIME = "time"
    INTS = "ints"
    FLOATS = "floats"
    STRINGS = "strings"


class TimeFormat(StrEnum):
    """Format of a time; ``position`` is a rank in time instead of one."""

    AUTO = "auto"
    SECONDS = "seconds"
    MS = "ms"
    US = "us"
    NS = "ns"
    ISO = "iso"
    PATTERN = "pattern"
    POSITION = "position"
    EXCEL = "excel"
    """Days since 1899-12-30, as spreadsheets count them, on the clocks of the column's time zone."""


class EventTime(StrEnum):
    """Whether event times were observed or made from positions."""

    OBSERVED = "observed"
    POSITION = "position"


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file of a source."""

    path: Path
    """Path to read; a zip member is unpacked first."""
    name: str
    """Name in messages, counts and the quarantine file."""


@dataclass(frozen=True, kw_only=True)
class TextFormat:
    """Layout of a text file with one record a line, or with quoted fields that may hold line breaks."""

    delimiter: str = ","
    """May be longer than one character if there is no quote character."""
    quote: str | None = '"'
    escape: str | None = None
    """Makes the character after it an ordinary one; a quote inside quotes may always be doubled instead."""
    encoding: str = "utf-8"
    """A byte order mark in the file overrides it."""
    header: tuple[str, ...] | Literal["numbers"] | None = None
    """Column names of a file without a header line, or their numbers from 1; None: the first line names the columns."""
    null_values: tuple[str, ...] = ()
    """Texts that mean "no value", besides the empty one."""

    @property
    def splits_lines(self) -> bool:
        """Whether whole lines are read and then split: the delimiter is more than the one byte that Arrow takes."""
        return len(self.delimiter.encode()) > 1


@dataclass(frozen=True, kw_only=True)
class JsonFormat:
    """A text file with one JSON object a line."""

    encoding: str = "utf-8"
    null_values: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ParquetFormat:
    """A Parquet file; it describes itself."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One column that is read, converted and checked."""

    name: str
    """Name after reading."""
    column: str
    """Name in the file."""
    kind: Kind
    key: bool = False
    """Part of the row's key: a row without it is refused as a null key."""
    required: bool = False
    """A row without a value is refused."""
    id_of: Literal["user", "item"] | None = None
    """Ids of one side have one type in all tables: whole numbers if all of them are, text otherwise."""
    minimum: float | None = None
    maximum: float | None = None
    time_format: TimeFormat = TimeFormat.AUTO
    time_found: bool = False
    """The format was found out from the values, not declared."""
    time_pattern: str | None = None
    """Pattern of a time, as ``strptime`` has it, with the format ``pattern``."""
    writing: Writing = PLAIN
    """Form of values that are written as text."""
    fallback: str | None = None
    """Name in the file of the column that a missing value is taken from."""
    prefix: str = ""
    """Stands before a value from the fallback."""
    units: tuple[str, ...] = ()
    """Texts that may stand before or behind a number, such as ``EUR``, and say nothing."""
    passes: str | None = None
    """A condition on the raw column, as :mod:`rf_platform.data.predicate` has it: the value is whether it holds."""


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """One table of a source."""

    table: TableName
    files: tuple[InputFile, ...]
    format: TextFormat | JsonFormat | ParquetFormat
    fields: tuple[Field, ...]
    outputs: dict[str, str]
    """Columns of the written table in order: name -> DuckDB SQL over the names of ``fields`` and ``__order``."""
    sorted: bool = False
    """The files claim to be sorted by time, so a row that is earlier than one before it is bad."""

    part: int = 0
    """Tables of attributes may come in parts, which are joined by key: the first says which items or users there are."""

    @property
    def staged(self) -> str:
        """Name of the table of its checked rows."""
        return f"staged_{self.table}{f'_{self.part}' if self.part else ''}"

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the key fields; no two rows may agree in all of them."""
        return tuple(f.name for f in self.fields if f.key)


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """A source as its adapter understands it."""

    name: str
    """Name of the catalog, recorded in the workspace."""
    feature_repo: str | None
    """Feast repository that comes with the platform for this source."""
    tables: tuple[TableSpec, ...]
    time: EventTime = EventTime.OBSERVED
    display: tuple[str, ...] = ()
    """Item columns that are shown to people and never fed to the model."""
    renamed_types: Mapping[str, str] = field(default_factory=dict)
    """Names that types of events get, by those in the files."""
    event_weights: Mapping[str, float] | str | None = None
    """Weights of types as targets of training, or the column of the log that has them; None: all weigh the same."""
    history_only: bool = False
    """Items of the log that the items table lacks get a row that says they are not to be recommended."""
    notes: tuple[str, ...] = field(default_factory=tuple)
    """Sentences the import prints."""
