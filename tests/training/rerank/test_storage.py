"""Re-rankers on disk."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rf_platform.errors import CorruptError
from rf_training.rerank import RERANKERS, RerankConfig, load_ranker, make_ranker, save_ranker

CONFIG = RerankConfig(links=3, heads=4, blocks=2, weights="silu", width=5, hidden=6, dropout=0.25, scale=7.5)


@pytest.mark.parametrize("kind", RERANKERS)
def test_what_is_read_is_what_was_written(kind: str, tmp_path: Path) -> None:
    ranker = make_ranker(replace(CONFIG, kind=kind), 16)
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.normal_()
    save_ranker(tmp_path, ranker)
    read = load_ranker(tmp_path)
    assert type(read) is type(ranker)
    assert (read.config, read.dim, read.training) == (ranker.config, 16, False)
    assert read.state_dict().keys() == ranker.state_dict().keys()
    assert all(torch.equal(read.state_dict()[name], value) for name, value in ranker.state_dict().items())


def test_weights_of_another_configuration_are_refused(tmp_path: Path) -> None:
    save_ranker(tmp_path, make_ranker(CONFIG, 16))
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"links": 4}))
    with pytest.raises(CorruptError, match=r"the weights in .* do not belong to its configuration"):
        load_ranker(tmp_path)


@pytest.mark.parametrize("content", [b"", b"cut off in the middle", None])
def test_damaged_weights_are_refused(tmp_path: Path, content: bytes | None) -> None:
    save_ranker(tmp_path, make_ranker(CONFIG, 16))
    if content is None:
        (tmp_path / "weights.safetensors").unlink()
    else:
        (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(CorruptError, match=r"weights.safetensors cannot be read: .*train it again"):
        load_ranker(tmp_path)


def test_half_a_file_of_weights_is_refused(tmp_path: Path) -> None:
    save_ranker(tmp_path, make_ranker(CONFIG, 16))
    whole = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptError, match=r"weights.safetensors cannot be read: .*train it again"):
        load_ranker(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "{}", '{"dim": 16, "knd": "lime-mha"}', '{"dim": 16, "kind": "lime"}', '{"dim": 17}']
)
def test_a_damaged_configuration_is_refused(tmp_path: Path, text: str) -> None:
    save_ranker(tmp_path, make_ranker(CONFIG, 16))
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(
        CorruptError, match=r"config.json (cannot be read|does not describe a re-ranker).*train it again"
    ):
        load_ranker(tmp_path)


def test_a_missing_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CorruptError, match=r"config.json (cannot be read|does not describe a re-ranker).*train it again"
    ):
        load_ranker(tmp_path / "nowhere")
