"""Texts to vectors, through the cache of the workspace."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from rf_platform.cli.console import track
from rf_platform.errors import ConfigError, RfError
from rf_platform.settings import get_settings
from rf_platform.texts.cache import VectorCache
from rf_platform.texts.encoder import SentenceEncoder, open_encoder
from rf_platform.texts.files import EncoderFiles, encoder_files

_AT_ONCE = 1024
"""Texts that are encoded before they are kept: what an interrupt can lose."""
_SHOWN_FROM = 4 * _AT_ONCE
_MIB = 1 << 20


class TextVectors:
    """Vectors of texts by one encoder, each text encoded once in a workspace."""

    def __init__(self, files: EncoderFiles, cache: VectorCache, threads: int = 1) -> None:
        self.files, self.cache = files, cache
        self._threads, self._lock = threads, Lock()

    @cached_property
    def encoder(self) -> SentenceEncoder:
        """The encoder, opened when a text comes that the cache does not have."""
        return open_encoder(self.files)

    def __call__(self, texts: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        """Return the vector of every text."""
        found = self.cache.get(list(dict.fromkeys(texts)))
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if not missing:
            return found
        with self._lock:
            encoder = self.encoder
        parts = [missing[start : start + _AT_ONCE] for start in range(0, len(missing), _AT_ONCE)]
        with (
            track("texts", len(missing), visible=len(missing) >= _SHOWN_FROM) as progress,
            ThreadPoolExecutor(min(self._threads, len(parts))) as pool,
        ):
            for part, vectors in zip(parts, pool.map(encoder.encode, parts), strict=True):
                fresh = dict(zip(part, vectors, strict=True))
                self.cache.put(fresh)
                found |= fresh
                progress.advance(len(part))
        return found


def vectors_of(identity: str, name: str, feature: str) -> TextVectors:
    """Return what encodes the texts of a feature as they were when its whitening was learned.

    Args:
        identity: of the encoder then.
        name: of the encoder then; if that is another one now, ``RF_TEXT_ENCODER`` is tried.
        feature: full name.

    Raises:
        ConfigError: no such encoder is here.
    """
    asked = get_settings().text_encoder
    problems = []
    for each in dict.fromkeys((name, asked)):
        try:
            files = encoder_files(each)
            if _identity(files.name) == identity:
                return _vectors(files.name)
            problems.append(f"'{each}' is another encoder now ({_identity(files.name)[:12]})")
        except RfError as error:
            problems.append(str(error))
    raise ConfigError(
        f"{feature} was encoded by the text encoder '{name}' ({identity[:12]}), which is not here: {'; '.join(problems)}. "
        f"Install that encoder, or set RF_TEXT_ENCODER to its directory"
    )


def chosen_vectors() -> TextVectors:
    """Return the encoder that ``RF_TEXT_ENCODER`` names, for a new dataset.

    Raises:
        ConfigError: it is not here.
    """
    return _vectors(encoder_files(get_settings().text_encoder).name)


@cache
def _identity(name: str) -> str:
    return encoder_files(name).identity


@cache
def _vectors(name: str) -> TextVectors:
    settings, files = get_settings(), encoder_files(name)
    path: Path = settings.workspace.cache / "texts" / f"{files.identity[:24]}.sqlite"
    return TextVectors(files, VectorCache(path, settings.text_cache_mb * _MIB), settings.threads or 1)
