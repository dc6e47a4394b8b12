"""Notes of a run: files to which a line of JSON is added now and then, such as ``history.jsonl``."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rf_platform.failures import reading, writing

_REMEDY = "restore the file, or delete it: the run itself does not need it"


def add_note(path: Path, values: Mapping[str, Any]) -> None:
    """Add a line to a file of notes, which is made if need be; the part of a line that a full disk has left goes away."""
    with writing(path), path.open("ab+") as file:
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        file.seek(0, os.SEEK_END)
        file.write(json.dumps(values).encode() + b"\n")


def read_notes(path: Path) -> list[dict[str, Any]]:
    """Read a file of notes; none where there is no file. A last line without an end was not written to its end, and is left out.

    Raises:
        CorruptError: a line is no JSON object.
    """
    if not path.exists():
        return []
    with reading(path, _REMEDY):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        notes = [json.loads(line) for line in lines if line.endswith("\n")]
        if any(not isinstance(note, dict) for note in notes):
            raise ValueError("a line is no JSON object")
        return notes
