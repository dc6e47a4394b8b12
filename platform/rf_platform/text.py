"""Texts: white space, which is not part of a value, and values and numbers of bytes as messages show them."""

from rf_platform.sql import literal

_SHOWN = 60


def shown(value: object) -> str:
    """Return a value for use in a message, cut short: error messages travel in HTTP headers."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def byte_size(count: float) -> str:
    """Return a number of bytes in the largest binary unit of which there is at least one, such as ``1.5 GiB``."""
    if count < 1024:
        return f"{count:,.0f} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:,.1f} TiB"


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
