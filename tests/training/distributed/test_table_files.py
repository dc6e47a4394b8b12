"""Sharded tables in files; what several processes write and read is in test_equivalence.py."""

from pathlib import Path

import pytest
import torch

from rf_platform.errors import CorruptError
from rf_training.distributed.tables import read_parts, write_parts


def test_what_was_written_is_read_in_place(tmp_path: Path) -> None:
    tables = {"weight": torch.arange(12.0).reshape(4, 3), "momentum": torch.arange(4.0), "step": torch.tensor(7.0)}
    write_parts(tmp_path / "tables", tables, rank=0)
    read = {name: torch.full_like(table, -1) for name, table in tables.items()}
    read_parts(tmp_path / "tables", read)
    assert all(torch.equal(read[name], table) for name, table in tables.items())


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"other": torch.zeros(4)}, r"are not those of this run \(other\)"),
        ({"weight": torch.zeros(5)}, r"are not those of this run \(weight\)"),
        ({"weight": torch.zeros(4, 1)}, r"are not those of this run \(weight\)"),
    ],
)
def test_other_tables_are_named(tmp_path: Path, wanted: dict[str, torch.Tensor], said: str) -> None:
    write_parts(tmp_path, {"weight": torch.ones(4)}, rank=0)
    with pytest.raises(CorruptError, match=rf"{said}; start a new run"):
        read_parts(tmp_path, wanted)


def test_files_of_an_earlier_version_and_damaged_ones_are_told(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(b"pickled")
    (tmp_path / "__0_0.distcp").write_bytes(b"")
    with pytest.raises(CorruptError, match=r"not there, or of an earlier version; start a new run"):
        read_parts(tmp_path, {"weight": torch.ones(4)})
    write_parts(tmp_path, {"weight": torch.ones(4)}, rank=0)
    path = tmp_path / "00000.pt"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CorruptError, match=r"cannot be read: .*start a new run"):
        read_parts(tmp_path, {"weight": torch.ones(4)})
