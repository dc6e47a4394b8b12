"""Kinds of re-rankers by name; making, writing and reading one: ``config.json`` and ``weights.safetensors``."""

import json
from dataclasses import asdict
from pathlib import Path

from rf_platform.errors import ConfigError, CorruptError
from rf_platform.failures import read_json, translated
from rf_platform.files import new_file
from rf_training.rerank.config import RerankConfig
from rf_training.rerank.lime import LimeMha, LimeXor
from rf_training.rerank.ranker import DotProduct, Ranker
from rf_training.rerank.target_attention import TargetAttention, TruncatedAttention
from rf_training.tensors import WEIGHTS, load_weights_file, save_weights_file, weights_file

RERANKERS: dict[str, type[Ranker]] = {
    each.kind: each for each in (LimeMha, LimeXor, TargetAttention, TruncatedAttention, DotProduct)
}
"""All kinds by name: what recipes, options, experiments and bundles choose from."""

CONFIG = "config.json"
_REMEDY = "restore the directory or train it again"


def served_kinds() -> list[str]:
    """Return the kinds that bundles take as their second stage."""
    return [kind for kind, ranker in RERANKERS.items() if ranker.served]


def check_kind(kind: str) -> None:
    """Refuse a kind that is not in :data:`RERANKERS`.

    Raises:
        ConfigError: it is not.
    """
    if kind not in RERANKERS:
        raise ConfigError(f"rerank.kind={kind!r} must be one of {', '.join(map(repr, RERANKERS))}")


def make_ranker(config: RerankConfig, dim: int) -> Ranker:
    """Return a new re-ranker for towers of width ``dim``; its parameters depend on torch's seed.

    Raises:
        ConfigError: there is no such kind, or the width is no multiple of the number of heads.
    """
    check_kind(config.kind)
    if dim % config.heads:
        raise ConfigError(f"rerank.heads={config.heads} must divide the width of the towers, model.dim={dim}")
    return RERANKERS[config.kind](config, dim)


def save_ranker(directory: Path, ranker: Ranker) -> None:
    """Write a re-ranker's configuration and weights into ``directory``."""
    values = {"dim": ranker.dim, **asdict(ranker.config)}
    with new_file(directory / WEIGHTS) as weights, new_file(directory / CONFIG) as described:
        described.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
        save_weights_file(weights, ranker.state_dict())


def load_ranker(directory: Path) -> Ranker:
    """Read a re-ranker written by :func:`save_ranker`, in evaluation mode.

    Raises:
        CorruptError: a file is missing or cannot be read, or the weights do not fit the configuration.
    """
    values = read_json(directory / CONFIG, _REMEDY)
    about = f"{directory / CONFIG} does not describe a re-ranker"
    try:
        with translated(about, _REMEDY, CorruptError, malformed=True):
            ranker = make_ranker(RerankConfig(**{k: v for k, v in values.items() if k != "dim"}), values["dim"])
    except ConfigError as error:
        raise CorruptError(f"{about} ({error}); {_REMEDY}") from error
    weights = load_weights_file(weights_file(directory), _REMEDY)
    with translated(
        f"the weights in {directory} do not belong to its configuration", _REMEDY, CorruptError, malformed=True
    ):
        ranker.load_state_dict(weights)
    return ranker.eval()
