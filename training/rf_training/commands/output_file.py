"""Files that a command is asked to write."""

import os
from pathlib import Path

from rf_platform.errors import UsageError
from rf_platform.files import new_file


def check_output_file(option: str, file: Path | None) -> None:
    """Refuse a file that cannot be written, before anything is computed for it; None is fine.

    Raises:
        UsageError: it is no file, or its directory is not there or closed.
    """
    if file is None:
        return
    directory = Path(os.path.realpath(file)).parent  # it is written beside what is there, and takes its place
    writable = (not file.exists() or file.is_file()) and directory.is_dir() and os.access(directory, os.W_OK)
    if not writable:
        raise UsageError(
            f"{option} {file} cannot be written: it needs a file in a directory that is there and may be written to"
        )


def write_output_file(file: Path, text: str) -> None:
    """Write a text to a file, as a whole or not at all.

    Raises:
        RfError: it cannot be written.
    """
    with new_file(file) as part:
        part.write_text(text, encoding="utf-8")
