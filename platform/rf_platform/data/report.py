"""Report of an import: the content of ``import.json``, also as tables for people."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from rf_platform.errors import NotFoundError
from rf_platform.failures import reading

RECORD = "import.json"


@dataclass(frozen=True, kw_only=True)
class FileCounts:
    """Rows of one input file; ``read == kept + quarantined``."""

    file: str
    table: str
    read: int
    kept: int
    quarantined: int
    reasons: dict[str, int]
    """Refused rows by reason."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """One import; two imports of the same input differ in ``imported_at`` only."""

    name: str
    """Name of the catalog."""
    source: str
    """Adapter that read it, as given to ``rf data import``."""
    path: str
    """Path of the input."""
    feature_repo: str | None
    """Feast repository that comes with the platform for this catalog."""
    time: str
    """``observed``, or ``position`` if event times were made from positions."""
    counts: dict[str, int]
    """Rows written by table, distinct users, rows quarantined."""
    inputs: tuple[FileCounts, ...]
    files: dict[str, str]
    """Written file -> SHA-256."""
    columns: dict[str, dict[str, str]]
    """Written table -> column -> Arrow type."""
    settled: dict[str, str] = field(default_factory=dict)
    """Types and time formats that were found out rather than declared: ``table.column`` -> type."""
    writing: dict[str, dict[str, str]] = field(default_factory=dict)
    """``table.column`` -> tags of a feature that say how its values are written as text, where that is not the usual way."""
    event_types: tuple[str, ...] = ()
    """Types of the events, the most frequent first; empty where there are very many."""
    renamed_types: dict[str, str] = field(default_factory=dict)
    """Names that types of events got, by those in the files."""
    event_weights: dict[str, float] | str | None = None
    """Weights of types as targets of training, or the column of the log that has them, as the mapping says."""
    bounds: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    """Least and largest value of columns of the interactions, where the source says them: rows beyond were refused."""
    display: tuple[str, ...] = ()
    """Item columns that are shown to people and never fed to the model."""
    first_event: str | None = None
    last_event: str | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    imported_at: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return asdict(self)

    def save(self, directory: Path) -> None:
        """Write ``import.json``."""
        (directory / RECORD).write_text(json.dumps(self.to_dict(), indent=2) + "\n")


def load_report(tables: Path) -> ImportReport:
    """Read the report of the last import.

    Args:
        tables: directory of a workspace's tables.

    Raises:
        NotFoundError: nothing was imported.
        CorruptError: ``import.json`` is not what an import writes.
    """
    path = tables / RECORD
    if not path.exists():
        raise NotFoundError(f"nothing is imported in {tables.parent}; run `rf data import` first")
    with reading(path, "import again with --replace"):
        data = json.loads(path.read_text())
        data["inputs"] = tuple(FileCounts(**f) for f in data["inputs"])
        for name in ("display", "warnings", "notes", "event_types"):
            data[name] = tuple(data.get(name, ()))
        return ImportReport(**data)


def counts_table(report: ImportReport) -> Table:
    """Return the rows read, kept and quarantined of every input file, with a line of sums."""
    table = Table(title=f"{report.name}: rows by input file", title_justify="left")
    table.add_column("file")
    table.add_column("table")
    for column in ("read", "kept", "quarantined"):
        table.add_column(column, justify="right")
    table.add_column("why")
    for f in report.inputs:
        why = ", ".join(f"{number:,} {reason}" for reason, number in f.reasons.items())
        table.add_row(escape(f.file), f.table, f"{f.read:,}", f"{f.kept:,}", f"{f.quarantined:,}", why)
    table.add_section()
    sums = (sum(getattr(f, name) for f in report.inputs) for name in ("read", "kept", "quarantined"))
    table.add_row("all", "", *(f"{n:,}" for n in sums), "")
    return table


def columns_table(report: ImportReport) -> Table:
    """Return the columns of the written tables with their types."""
    table = Table(title="columns", title_justify="left")
    for column in ("table", "rows", "column", "type", "found out"):
        table.add_column(column, justify="right" if column == "rows" else "left")
    for name, columns in report.columns.items():
        for i, (column, kind) in enumerate(columns.items()):
            rows = f"{report.counts[name]:,}" if i == 0 else ""
            table.add_row(
                name if i == 0 else "", rows, column, escape(kind), report.settled.get(f"{name}.{column}", "")
            )
        table.add_section()
    return table
