"""Names and texts inside generated SQL, and paths inside the URLs of databases."""

import os
from pathlib import Path
from urllib.parse import quote


def identifier(name: str) -> str:
    """Return a column or table name, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str | Path) -> str:
    """Return a text constant, such as a path, quoted."""
    return "'" + str(text).replace("'", "''") + "'"


def pattern_literal(path: str | Path) -> str:
    """Return the constant of a path, or of a glob pattern below a directory, for functions that expand patterns.

    Characters of a pattern mean themselves where they belong to a file or directory that is there.
    """
    text = str(path)
    if "://" in text or not set(text) & set("*?["):
        return literal(text)
    exact = text
    while exact and not os.path.exists(exact):
        exact = exact.rpartition("/")[0]
    escaped = "".join(f"[{c}]" if c in "*?[" else c for c in exact)
    return literal(escaped + text[len(exact) :])


def sqlite_url(path: Path) -> str:
    """Return SQLAlchemy's URL of an SQLite file, which may have percent signs and blanks in its path."""
    return f"sqlite:///{quote(str(path))}"
