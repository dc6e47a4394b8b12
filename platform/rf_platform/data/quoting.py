"""Names, texts and paths inside generated SQL."""

import re
from pathlib import Path


def identifier(name: str) -> str:
    """Return a column or table name, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text constant, quoted."""
    return "'" + text.replace("'", "''") + "'"


def file_literal(path: Path) -> str:
    """Return a path constant that DuckDB does not take for a glob pattern."""
    return literal(re.sub(r"([*?\[])", r"[\1]", str(path)))
