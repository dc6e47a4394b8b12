"""Files that a command is asked to write."""

import os
from pathlib import Path

from rf_platform.errors import UsageError


def check_output_file(option: str, file: Path | None) -> None:
    """Refuse a file that cannot be written, before anything is computed for it; None is fine.

    Raises:
        UsageError: it is no file, or its directory is not there or closed.
    """
    if file is None:
        return
    writable = (
        file.is_file() and os.access(file, os.W_OK)
        if file.exists()
        else file.parent.is_dir() and os.access(file.parent, os.W_OK)
    )
    if not writable:
        raise UsageError(f"{option} {file} cannot be written: it needs a file in a directory that is there")
