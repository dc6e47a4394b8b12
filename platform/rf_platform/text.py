"""Values as messages show them."""

_SHOWN = 60


def shown(value: object) -> str:
    """Return a value for use in a message, cut short: error messages travel in HTTP headers."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
