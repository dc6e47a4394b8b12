"""Notes of a run: every line is a JSON object, or the file is damaged."""

from pathlib import Path

import pytest

from rf_platform.errors import CorruptError
from rf_training.notes import add_note, read_notes


@pytest.mark.parametrize("line", ["0", "[]", "null", "false", '""', "1", "[1]", "{"])
def test_a_line_that_is_no_object_is_damage(tmp_path: Path, line: str) -> None:
    path = tmp_path / "history.jsonl"
    add_note(path, {"epoch": 1})
    assert read_notes(path) == [{"epoch": 1}]
    with path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(CorruptError, match=r"history\.jsonl cannot be read"):
        read_notes(path)
