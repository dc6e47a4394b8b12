"""Model weights on disk: ``config.json`` and ``weights.safetensors``."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from rf_platform.errors import CorruptError
from rf_platform.failures import read_json, reading, translated
from rf_platform.features.encode import FeatureEncoder
from rf_platform.files import new_file
from rf_training.device import CPU
from rf_training.model.config import ModelConfig
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.tensors import WEIGHTS, load_weights_file, save_weights_file, weights_file

_REMEDY = "restore the directory, or train the run again"


def save_model(directory: Path, model: RetrievalFormer) -> None:
    """Write a model's configuration and weights into ``directory``."""
    save_weights(directory, model.config, model.state_dict())


def save_weights(directory: Path, config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Write the configuration and the state of a model into ``directory``."""
    with new_file(directory / WEIGHTS) as file, new_file(directory / "config.json") as described:
        described.write_text(json.dumps(asdict(config), indent=2, sort_keys=True) + "\n")
        save_weights_file(file, weights)


def load_model(directory: Path, encoder: FeatureEncoder, device: torch.device = CPU) -> RetrievalFormer:
    """Read a model written by :func:`save_model`, in evaluation mode.

    Args:
        directory: where it lies.
        encoder: of the features.
        device: where it is to be asked.

    Raises:
        CorruptError: the weights do not fit the configuration and the encoder.
    """
    config = read_config(directory)
    model = RetrievalFormer(config, encoder)
    weights = read_weights(directory, config)
    with translated(
        f"the weights in {directory} do not belong to its configuration", _REMEDY, CorruptError, malformed=True
    ):
        model.load_state_dict(weights)
    return model.to(device).eval()


def read_config(directory: Path) -> ModelConfig:
    """Read the configuration of a model.

    Raises:
        CorruptError: it is missing, damaged, or of another version.
    """
    path = directory / "config.json"
    with reading(path, _REMEDY):
        return ModelConfig(**read_json(path, _REMEDY))


def read_weights(directory: Path, config: ModelConfig) -> dict[str, Tensor]:
    """Read the state of the model in a directory, memory-mapped; one of an earlier version answers as it did.

    Earlier a position read had no profile of its own but in the layout ``cls``.

    Raises:
        CorruptError: the file is missing, damaged, or has other things than weights.
    """
    weights = load_weights_file(weights_file(directory), _REMEDY)
    if config.layout != "cls":
        weights.setdefault("user_tower.read_profile.weight", torch.zeros(config.dim, config.dim))
    return weights
