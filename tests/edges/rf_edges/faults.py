"""Faults of files, each by name."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq


def _directory(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    path.mkdir()


def _missing(path: Path) -> None:
    path.unlink()


def _other_format(path: Path) -> None:
    """A file of the wrong format: well formed, and something else."""
    if path.suffix in (".parquet", ".db"):
        path.write_text("user,item\n1,2\n" * 20)
    else:
        pq.write_table(pa.table({"a": [1, 2]}), path)


def _other_content(path: Path) -> None:
    """A file of the right format with another content."""
    match path.suffix:
        case ".parquet":
            pq.write_table(pa.table({"a": [1, 2]}), path)
        case ".json":
            path.write_text('{"a": [1, 2]}\n')
        case ".yaml":
            path.write_text("[1, 2]\n")
        case ".csv":
            path.write_text("a,b\n1,2\n")
        case ".py":
            path.write_text("this is no Python\n")
        case _:
            path.write_bytes(b"")


_TEXT = frozenset({".yaml", ".json", ".csv", ".py", ".pem", ".pub"})
_TABLE, _DATABASE = frozenset({".parquet"}), frozenset({".db"})
_LINES, _WEIGHTS = (
    frozenset({".jsonl", ".txt"}),
    frozenset({".pt", ".safetensors", ".npy"}),
)  # half of some lines is fewer lines


class Fault(NamedTuple):
    """Something that can be wrong with a file that a command reads."""

    spoil: Callable[[Path], object]
    kinds: frozenset[str]
    """Suffixes of the files that it is tried with."""


FAULTS: Mapping[str, Fault] = {
    "directory": Fault(_directory, _TEXT | _TABLE | _DATABASE | _LINES | _WEIGHTS),
    "missing": Fault(_missing, _TEXT | _TABLE),
    "binary": Fault(lambda path: path.write_bytes(bytes(range(128, 256)) * 8), _TEXT | _TABLE | _LINES | _WEIGHTS),
    "empty": Fault(lambda path: path.write_bytes(b""), _TEXT | _TABLE),
    "truncated": Fault(
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        _TEXT | _TABLE | _DATABASE | _WEIGHTS,
    ),
    "format": Fault(_other_format, _TABLE | _DATABASE),
    "content": Fault(_other_content, _TEXT | _TABLE),
}
"""Faults by name."""
