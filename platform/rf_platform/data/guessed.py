"""Files and columns as a guess sees them."""

from dataclasses import dataclass, field

from rf_platform.data.profile import Profile
from rf_platform.data.raw import RawFile
from rf_platform.data.specs import JsonFormat, ParquetFormat, TextFormat


@dataclass(frozen=True, kw_only=True)
class GuessedColumn:
    """A column of a file."""

    name: str
    type: str
    """DuckDB's type, TEXT in text files."""
    text: str
    """SQL of its values as text."""
    profile: Profile


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
