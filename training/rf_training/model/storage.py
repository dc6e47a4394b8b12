"""Model weights on disk: ``config.json`` and ``weights.pt``."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from rf_platform.errors import CorruptError
from rf_platform.features.encode import FeatureEncoder
from rf_platform.staging import put_file
from rf_training.device import CPU
from rf_training.model.config import ModelConfig
from rf_training.model.retrievalformer import RetrievalFormer


def save_model(directory: Path, model: RetrievalFormer) -> None:
    """Write a model's configuration and weights into ``directory``."""
    save_weights(directory, model.config, model.state_dict())


def save_weights(directory: Path, config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Write the configuration and the state of a model into ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    draft, temporary = directory / "config.tmp", directory / "weights.tmp"
    draft.write_text(json.dumps(asdict(config), indent=2, sort_keys=True) + "\n")
    torch.save({name: weight.cpu() for name, weight in weights.items()}, temporary)  # to be read anywhere
    put_file(draft, directory / "config.json")
    put_file(temporary, directory / "weights.pt")  # a crash leaves the weights that were there


def load_model(directory: Path, encoder: FeatureEncoder, device: torch.device = CPU) -> RetrievalFormer:
    """Read a model written by :func:`save_model`, in evaluation mode.

    Args:
        directory: where it lies.
        encoder: of the features.
        device: where it is to be asked.

    Raises:
        CorruptError: the weights do not fit the configuration and the encoder.
    """
    config = ModelConfig(**json.loads((directory / "config.json").read_text()))
    model = RetrievalFormer(config, encoder)
    try:
        model.load_state_dict(read_weights(directory / "weights.pt", config))
    except Exception as error:  # torch raises many kinds
        raise CorruptError(f"the weights in {directory} do not belong to its configuration: {error}") from error
    return model.to(device).eval()


def read_weights(path: Path, config: ModelConfig) -> dict[str, Tensor]:
    """Read the state of a model, memory-mapped; one of an earlier version is brought up to this one and answers as it did.

    Earlier a position read had no profile of its own but in the layout ``cls``.
    """
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if config.layout != "cls":
        weights.setdefault("user_tower.read_profile.weight", torch.zeros(config.dim, config.dim))
    return weights
