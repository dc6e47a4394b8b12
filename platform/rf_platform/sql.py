"""Names and texts inside generated SQL."""

import os
from pathlib import Path


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
