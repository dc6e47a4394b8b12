"""Names and texts inside generated SQL."""

from pathlib import Path


def identifier(name: str) -> str:
    """Return a column or table name, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str | Path) -> str:
    """Return a text constant, such as a path, quoted."""
    return "'" + str(text).replace("'", "''") + "'"
