"""Names that are also directories: datasets, runs and bundles."""

import re

from rf_platform.errors import UsageError

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)


def check_name(what: str, name: str) -> str:
    """Return ``name`` if it is safe as one path component.

    Args:
        what: what is being named, for the message: "bundle", "run", "dataset".
        name: up to 128 letters, digits, dots, dashes and underscores, starting with a letter or a digit.

    Raises:
        UsageError: the name has another form.
    """
    if not _SAFE.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a {what}: use letters, digits, '.', '_' and '-', starting with a letter or "
            f"a digit, 128 characters at most"
        )
    return name
