"""Values and numbers of bytes as messages show them."""

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
