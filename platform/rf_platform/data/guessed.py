"""Files and columns as a guess sees them."""

import re
from dataclasses import dataclass, field

from rf_platform.data.profile import Profile
from rf_platform.data.raw import RawFile
from rf_platform.data.specs import JsonFormat, ParquetFormat, TextFormat

NAMED_TIME = re.compile(
    r"time|date|datum|zeit|fecha|moment|created|updated|since|until|occurred|when|_at$|_on$|ts$|^at$|^day$", re.I
)
"""Names of columns with times."""


@dataclass(frozen=True, kw_only=True)
class GuessedColumn:
    """A column of a file."""

    name: str
    type: str
    """DuckDB's type, TEXT in text files."""
    text: str
    """SQL of its values as text."""
    profile: Profile
    units: tuple[str, ...] = ()
    """Units that its numbers have."""
    comma: bool = False
    """Whether numbers with a unit have a decimal comma."""

    @property
    def serial(self) -> bool:
        """Whether it looks like a time in days as spreadsheets count them."""
        return bool(NAMED_TIME.search(self.name)) and self.profile.most("excel")


@dataclass(kw_only=True)
class GuessedFile:
    """A file with its columns, and what was made of it."""

    raw: RawFile
    format: TextFormat | JsonFormat | ParquetFormat
    columns: list[GuessedColumn]
    encoding: str = "utf-8"
    refused: str = ""
    """Rows that cannot be read, in words; empty if there are none."""
    key: str | None = None
    """Name of the column with the id that the file describes."""
    roles: dict[str, str] = field(default_factory=dict)
    """Of the log: role -> column."""

    def column(self, name: str) -> GuessedColumn:
        """Return a column by name."""
        return next(column for column in self.columns if column.name == name)
