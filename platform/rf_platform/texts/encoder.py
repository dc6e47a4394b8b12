"""Sentence encoders: texts in, vectors out, the same for a text whatever stands beside it.

Shapes: T texts, L tokens of each, V rows of a static table, W width.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from rf_platform.errors import ConfigError, CorruptError
from rf_platform.failures import translated
from rf_platform.texts.files import INSTALL, EncoderFiles

if TYPE_CHECKING:
    from rf_platform.onnx_graph import OnnxSession

Vectors = npt.NDArray[np.float32]
_TOKENS_AT_ONCE = 4096
"""Tokens of one run of a graph: more of them would not fit the processor's cache."""
_CHARACTERS_PER_TOKEN = 64
"""A text is cut off before it is split into tokens where it cannot matter."""
_REMEDY = "install the encoder again"


class SentenceEncoder(Protocol):
    """Texts in, vectors out."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors [T, W] of texts that are not empty."""


def open_encoder(files: EncoderFiles) -> SentenceEncoder:
    """Open an encoder.

    Raises:
        ConfigError: the packages that read it are not installed.
        CorruptError: its files cannot be read, or do not belong together.
    """
    return _Static(files) if files.form == "static" else _Transformer(files)


class _Transformer:
    """Vectors of tokens by an ONNX graph, and their mean or first."""

    def __init__(self, files: EncoderFiles) -> None:
        self._tokens = _tokeniser(files, special=True)
        self._files = files
        with translated(f"the text encoder in {files.weights.parent} cannot be used", _REMEDY, CorruptError):
            self._session = _session(files)
        self._whole = "sentence_embedding" in self._session.outputs
        self._output = self._session.outputs.index("sentence_embedding") if self._whole else 0

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Encode texts of equal numbers of tokens together: no padding, so a vector depends on its text alone."""
        tokens = self._tokens(texts)
        by_length: dict[int, list[int]] = {}
        for place, ids in enumerate(tokens):
            by_length.setdefault(len(ids), []).append(place)
        found: Vectors | None = None
        for length, places in sorted(by_length.items()):
            step = max(1, _TOKENS_AT_ONCE // max(1, length))
            for start in range(0, len(places), step):
                some = places[start : start + step]
                part_TW = self._some(np.array([tokens[place] for place in some], np.int64))
                found = np.empty((len(texts), part_TW.shape[1]), np.float32) if found is None else found
                found[some] = part_TW
        assert found is not None, "there are no texts"
        return _unit(found) if self._files.normalise else found

    def _some(self, ids_TL: npt.NDArray[np.int64]) -> Vectors:
        given = {"input_ids": ids_TL, "attention_mask": np.ones_like(ids_TL), "token_type_ids": np.zeros_like(ids_TL)}
        if unknown := set(self._session.inputs) - set(given):
            raise ConfigError(
                f"the graph {self._files.weights} takes {', '.join(sorted(unknown))}; a text encoder takes {', '.join(given)}"
            )
        output = self._session({name: given[name] for name in self._session.inputs})[self._output]
        if self._whole:
            return output
        pooled: Vectors = output[:, 0] if self._files.pooling == "cls" else output.mean(axis=1)
        return pooled


class _Static:
    """One vector a token, and their mean: no computation worth the name."""

    def __init__(self, files: EncoderFiles) -> None:
        self._tokens = _tokeniser(files, special=False)
        self._normalise = files.normalise
        tables = _safetensors(files)
        matrices = [name for name, values in tables.items() if values.ndim == 2]
        if len(matrices) != 1:
            raise CorruptError(f"{files.weights} has {len(matrices)} tables; a static text encoder has one")
        self._table_VW = tables[matrices[0]]
        self._row_of_token, self._weight_of_token = tables.get("mapping"), tables.get("weights")

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return the mean of the vectors of each text's tokens; that of a text without a token is zero."""
        found = np.zeros((len(texts), self._table_VW.shape[1]), np.float32)
        for place, ids in enumerate(self._tokens(texts)):
            if ids:
                tokens = np.array(ids)
                rows = tokens if self._row_of_token is None else self._row_of_token[tokens].astype(np.int64)
                vectors_LW = self._table_VW[rows].astype(np.float32)
                if self._weight_of_token is not None:
                    vectors_LW *= self._weight_of_token[tokens, None]
                found[place] = vectors_LW.mean(axis=0)
        return _unit(found) if self._normalise else found


def _session(files: EncoderFiles) -> "OnnxSession":
    from rf_platform.onnx_graph import OnnxSession

    if files.form == "onnx":
        return OnnxSession(files.weights)
    from rf_platform.texts.bert import bert_session

    try:
        return bert_session(_safetensors(files), files.config)
    except KeyError as error:
        raise CorruptError(f"{files.weights} lacks {error}, which a BERT has; {_REMEDY}") from error


def _safetensors(files: EncoderFiles) -> dict[str, npt.NDArray[np.float32]]:
    from safetensors.numpy import load_file

    try:
        tables: dict[str, npt.NDArray[np.float32]] = load_file(files.weights)
    except Exception as error:  # of a class of its own
        raise CorruptError(f"{files.weights} cannot be read: {error}; {_REMEDY}") from error
    return tables


def _tokeniser(files: EncoderFiles, *, special: bool) -> Callable[[Sequence[str]], list[list[int]]]:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # threads are this process's business
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise ConfigError(f"the text encoder '{files.name}' needs the package tokenizers; {INSTALL}") from error
    try:
        tokeniser = Tokenizer.from_file(str(files.tokenizer))
    except Exception as error:  # of no class of its own
        raise CorruptError(f"{files.tokenizer} cannot be read: {error}; {_REMEDY}") from error
    tokeniser.no_padding()
    tokeniser.enable_truncation(files.max_tokens)
    longest = files.max_tokens * _CHARACTERS_PER_TOKEN

    def tokens(texts: Iterable[str]) -> list[list[int]]:
        return [e.ids for e in tokeniser.encode_batch([text[:longest] for text in texts], add_special_tokens=special)]

    return tokens


def _unit(vectors_TW: Vectors) -> Vectors:
    length_T1 = np.linalg.norm(vectors_TW, axis=1, keepdims=True)
    unit: Vectors = vectors_TW / np.maximum(length_T1, 1e-12)
    return unit
