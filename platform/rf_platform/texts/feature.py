"""Text of items as a dense feature: which encoder, and the whitening learned behind it. R rows, D width."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.failures import reading
from rf_platform.text import trimmed
from rf_platform.texts.source import TextVectors, chosen_vectors, vectors_of
from rf_platform.texts.whitening import Moments, Whitening

_FILE = "texts.npz"
_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class TextFeature:
    """A field of kind ``text`` as a model knows it."""

    name: str
    """Full name of the field."""
    encoder: str
    """Name or directory of its sentence encoder."""
    identity: str
    """Hash of the encoder's files, :attr:`~rf_platform.texts.files.EncoderFiles.identity`."""
    whitening: Whitening

    def source(self) -> TextVectors:
        """Return the encoder.

        Raises:
            ConfigError: it is not here.
        """
        return vectors_of(self.identity, self.encoder, self.name)

    def vectors(self, texts: Sequence[str | None]) -> npt.NDArray[np.float32]:
        """Return float32 [R, D]; NaN for a text that is missing, empty or blank.

        Raises:
            ConfigError: the encoder is not here.
        """
        clean = [trimmed(text) if text else "" for text in texts]
        place_of = {text: place for place, text in enumerate(dict.fromkeys(text for text in clean if text))}
        found_RD = np.full((len(clean), self.whitening.width), np.nan, np.float32)
        if place_of:
            raw = self.source()(list(place_of))
            whitened_TD = self.whitening(np.stack([raw[text] for text in place_of]))
            rows = [row for row, text in enumerate(clean) if text]
            found_RD[rows] = whitened_TD[[place_of[clean[row]] for row in rows]]
        return found_RD

    @property
    def described(self) -> dict[str, Any]:
        """Encoder, identity and width, as written beside the other statistics."""
        return {"encoder": self.encoder, "identity": self.identity, "width": self.whitening.width}


def learn_text(name: str, training: Iterable[str], others: Iterable[str]) -> TextFeature:
    """Learn the whitening of a field's texts, and encode all of them, so that what follows finds them in the cache.

    Args:
        name: full name of the field.
        training: distinct texts that training events saw.
        others: distinct texts of other states of items.

    Raises:
        ConfigError: the encoder that the settings name is not here.
    """
    source = chosen_vectors()
    moments: Moments | None = None
    for part in _parts(training):
        found = source(part)
        vectors_TW = np.stack([found[text] for text in part])  # in this order, whatever the cache had: sums are rounded
        moments = Moments(vectors_TW.shape[1]) if moments is None else moments
        moments.add(vectors_TW)
    for part in _parts(others):
        moments = Moments(len(next(iter(source(part).values())))) if moments is None else moments
    whitening = (moments or Moments(1)).whitening()
    return TextFeature(name, source.files.name, source.files.identity, whitening)


def save_texts(features: Mapping[str, TextFeature], directory: Path) -> None:
    """Write what was learned about texts beside the other statistics of an encoder; nothing where there are none."""
    if features:
        arrays = [(f.whitening.mean_W, f.whitening.matrix_WD) for _, f in sorted(features.items())]
        np.savez(directory / _FILE, *(array for pair in arrays for array in pair))


def load_texts(described: Mapping[str, Mapping[str, Any]], directory: Path) -> dict[str, TextFeature]:
    """Read what :func:`save_texts` wrote.

    Raises:
        CorruptError: the file is missing or damaged.
    """
    if not described:
        return {}
    with reading(directory / _FILE), np.load(directory / _FILE) as file:
        return {
            name: TextFeature(
                name,
                described[name]["encoder"],
                described[name]["identity"],
                Whitening(file[f"arr_{2 * i}"], file[f"arr_{2 * i + 1}"]),
            )
            for i, name in enumerate(sorted(described))
        }


def _parts(texts: Iterable[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for text in map(trimmed, texts):
        if text:
            part.append(text)
        if len(part) == _AT_ONCE:
            yield part
            part = []
    if part:
        yield part
