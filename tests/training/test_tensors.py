"""Weights in files of safetensors, and in those of earlier versions."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rf_platform.errors import CorruptError
from rf_training.tensors import WEIGHTS, load_weights_file, save_tensors, save_weights_file, weights_file

TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool)


def weights() -> dict[str, Tensor]:
    found = {f"of.{kind}": (torch.arange(15).reshape(3, 5) % 2).to(kind) for kind in TYPES}
    shared = torch.randn(4, 6)
    return {**found, "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "turned": shared.T, "same": shared}


def test_the_package_reads_what_is_written_and_the_other_way_round(tmp_path: Path) -> None:
    made, path = weights(), tmp_path / WEIGHTS
    save_weights_file(path, made)
    assert path.stat().st_mode & 0o044  # others may serve it
    for found in (load_file(path), load_weights_file(path, "train again")):
        assert found.keys() == made.keys()
        assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in made.items())
    save_file({name: value.clone().contiguous() for name, value in made.items()}, path)
    assert all(torch.equal(value, made[name]) for name, value in load_weights_file(path, "train again").items())


@pytest.mark.parametrize("content", [b"", b"x" * 7, b"\xff" * 64, None])
def test_a_damaged_file_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / WEIGHTS
    save_weights_file(path, weights())
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(CorruptError, match=rf"{WEIGHTS} cannot be read: .*; train again"):
        load_weights_file(path, "train again")


def test_no_file_and_a_directory_are_told(tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match=rf"{WEIGHTS} cannot be read: .*; train again"):
        load_weights_file(weights_file(tmp_path), "train again")
    (tmp_path / WEIGHTS).mkdir()
    with pytest.raises(CorruptError, match=rf"{WEIGHTS} cannot be read: .*; train again"):
        load_weights_file(weights_file(tmp_path), "train again")


def test_weights_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    made = weights()
    save_tensors(tmp_path / "weights.pt", made)
    assert weights_file(tmp_path).name == "weights.pt"
    found = load_weights_file(weights_file(tmp_path), "train again")
    assert all(torch.equal(found[name], value) for name, value in made.items())
    save_tensors(tmp_path / "weights.pt", {"epoch": 3})
    with pytest.raises(CorruptError, match=r"weights\.pt has no weights of a model; train again"):
        load_weights_file(weights_file(tmp_path), "train again")
    save_weights_file(tmp_path / WEIGHTS, {})
    assert weights_file(tmp_path).name == WEIGHTS
