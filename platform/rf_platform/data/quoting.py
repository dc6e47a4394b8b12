"""Names and texts inside generated SQL."""


def identifier(name: str) -> str:
    """Return a column or table name, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text constant, quoted."""
    return "'" + text.replace("'", "''") + "'"
