"""Ids as text in requests and replies, and as the catalog's own type inside."""

from rf_platform.errors import UsageError
from rf_platform.features.spec import IdType

_INT64 = range(-(2**63), 2**63)
_SHOWN = 60


def parse_id(text: str, id_type: IdType, field: str) -> int | str:
    """Return an id in the catalog's type.

    Raises:
        UsageError: ``text`` is empty or no int64, where ids are integers; the message begins with ``field``.
    """
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


def shown(value: object) -> str:
    """Return a value for use in a message, cut short: error messages travel in HTTP headers."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
