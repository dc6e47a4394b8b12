"""White space of every kind, which is not part of a value: blanks and tabs, no-break and full-width blanks, zero-width marks."""

from rf_platform.sql import literal

BLANKS = "".join(
    chr(first + i)
    for first, count in (
        (0x09, 5),  # tab to carriage return
        (0x1C, 5),  # separators, blank
        (0x85, 1),
        (0xA0, 1),
        (0x1680, 1),
        (0x180E, 1),
        (0x2000, 14),  # en quad to zero-width joiner
        (0x2028, 2),
        (0x202F, 1),
        (0x205F, 2),  # mathematical blank, word joiner
        (0x3000, 1),
        (0xFEFF, 1),  # a byte order mark where files were joined
    )
    for i in range(count)
)
"""The characters that are trimmed from both ends of a text."""

_CLEAN = literal(f"(?s)[^{BLANKS}](.*[^{BLANKS}])?")


def trimmed(text: str) -> str:
    """Return a text without white space at its ends."""
    return text.strip(BLANKS)


def trimmed_sql(sql: str) -> str:
    """Return the SQL of a text without white space at its ends."""
    # DuckDB's trim with characters of its own is twenty times slower than the pattern, which most values pass.
    return f"CASE WHEN regexp_full_match({sql}, {_CLEAN}) THEN {sql} ELSE trim({sql}, {literal(BLANKS)}) END"
