"""Cost of a sentence encoder: opening, encoding together and alone, and the cache in front of it."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np

from rf_platform.errors import ConfigError
from rf_platform.texts.cache import VectorCache
from rf_platform.texts.encoder import open_encoder
from rf_platform.texts.files import INSTALL, PACKAGED, encoder_files

_ALONE = 50
_BOUND = 1 << 30
_WORDS = [
    "blue",
    "red",
    "green",
    "small",
    "large",
    "wooden",
    "steel",
    "summer",
    "winter",
    "night",
    "river",
    "city",
    "mountain",
    "king",
    "secret",
    "lost",
    "first",
    "story",
    "love",
    "war",
    "star",
    "garden",
    "table",
    "lamp",
    "phone",
    "case",
    "shirt",
    "camera",
    "music",
    "game",
    "book",
    "history",
    "family",
    "home",
    "bridge",
    "island",
    "train",
    "ship",
    "dog",
    "bird",
    "tree",
]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Figures of one encoder."""

    encoder: str
    width: int
    megabytes: float
    """Size of its weights on disk."""
    open_s: float
    texts_per_s: float
    alone_ms: float
    """Median."""
    cached_per_s: float


def installed() -> list[str]:
    """Return the names of the packaged encoders that are here.

    Raises:
        ConfigError: there are none.
    """
    names = []
    for name in PACKAGED:
        try:
            encoder_files(name)
        except ConfigError:
            continue
        names.append(name)
    if not names:
        raise ConfigError(f"no text encoder is installed; {INSTALL}, or name a directory with --encoder")
    return names


def measure(encoder: str, count: int, words: int) -> Cost:
    """Measure an encoder on texts of random words.

    Args:
        encoder: a name or a directory.
        count: texts that are encoded together.
        words: of each text.
    """
    files = encoder_files(encoder)
    rng = np.random.default_rng(0)
    texts = [f"{i} {' '.join(rng.choice(_WORDS, words))}" for i in range(count)]
    begin = process_time()
    opened = open_encoder(files)
    open_s = process_time() - begin
    opened.encode(texts[:50])  # what is done once has been done
    begin = process_time()
    vectors = opened.encode(texts)
    together_s = process_time() - begin
    alone_ms = []
    for text in texts[:_ALONE]:
        begin = process_time()
        opened.encode([text])
        alone_ms.append(1e3 * (process_time() - begin))
    with TemporaryDirectory() as directory:
        cache = VectorCache(Path(directory) / "texts.sqlite", _BOUND)
        cache.put(dict(zip(texts, vectors, strict=True)))
        begin = process_time()
        assert len(cache.get(texts)) == len(texts)
        cached_s = process_time() - begin
    return Cost(
        encoder=encoder,
        width=vectors.shape[1],
        megabytes=files.weights.stat().st_size / 1e6,
        open_s=open_s,
        texts_per_s=count / together_s,
        alone_ms=median(alone_ms),
        cached_per_s=count / cached_s,
    )
