"""Ids as text in requests and replies, and as the catalog's own type inside."""

from rf_platform.errors import UsageError
from rf_platform.features.spec import IdType
from rf_platform.text import shown, trimmed

_INT64 = range(-(2**63), 2**63)


def parse_id(text: str, id_type: IdType, field: str) -> int | str:
    """Return an id in the catalog's type, without white space around it, as an import reads it.

    Raises:
        UsageError: ``text`` is empty or no int64, where ids are integers; the message begins with ``field``.
    """
    text = trimmed(text)
    if not text:
        raise UsageError(f"{field}: must not be empty")
    if id_type == "string":
        return text
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or str(number) != text or number not in _INT64:
        raise UsageError(f"{field}: {shown(text)} is not an id here; ids are whole numbers, written like 42")
    return number


def id_of(text: str, id_type: IdType) -> int | str | None:
    """Return a recorded id in the catalog's type; None for one that was recorded when ids were of another type."""
    try:
        return parse_id(text, id_type, "id")
    except UsageError:
        return None


def typed(text: str, id_type: IdType) -> int | str:
    """Return a recorded id in the catalog's type."""
    return int(text) if id_type == "int64" else text
