"""Semantic ids: the content of an item as a few codes, by residual k-means, and their prefixes as categorical values.

Items of like content share the first codes, and so the rows of their prefixes: what is learned of one holds for its neighbours,
and a new item has rows that training knows. (Singh et al., "Better generalization with semantic ids for recommendation ranking",
2024; prefixes as n-grams after Zheng et al., 2025.) Shapes: N items, C width of the content, K codes of a level, L levels.
"""

from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt

from rf_platform.failures import reading
from rf_platform.features.jagged import EncodedTable, Jagged
from rf_platform.features.spec import SemanticSpec
from rf_platform.features.vocabulary import UNKNOWN_ID

NO_CODE = -1
"""Prefix of an item without any content."""
_SKETCH = 256
"""Numbers of the sketch that stands for categorical attributes: random signs in random places, so that products are kept."""
_ROUNDS = 15
_USUAL = 3.0
"""Deviations at which a number ends in the sketch."""
_FILE = "semantic_ids.npz"


@dataclass(frozen=True, eq=False)
class Content:
    """Content of an item as one vector: its dense features, or a sketch of all others where it has none."""

    fields: tuple[str, ...]
    """Full names of the dense features; none of them for the sketch."""
    scales: npt.NDArray[np.float32]
    """One over the usual length of each dense feature."""

    @classmethod
    def of(cls, encoded: EncodedTable) -> "Content":
        """Take the dense features of some items, each scaled to a length of one on average."""
        fields = tuple(sorted(encoded.vectors))
        exact = [encoded.vectors[f].astype(np.float64) for f in fields]
        squares = [np.nansum(each**2) / max(1, (~np.isnan(each).any(axis=1)).sum()) for each in exact]
        scales = [1 / np.sqrt(square) if square > 0 else 1.0 for square in squares]
        return cls(fields, np.array(scales, np.float32))

    def vectors(self, encoded: EncodedTable) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Return the content [N, C], and of which items [N] anything is known; what is missing counts as zero."""
        if not self.fields:
            return _sketch(encoded)
        parts = [
            encoded.vectors[f].astype(np.float64) * scale for f, scale in zip(self.fields, self.scales, strict=True)
        ]
        whole = np.concatenate(parts, axis=1)
        return np.nan_to_num(whole), ~np.isnan(whole).all(axis=1)


@dataclass(frozen=True, eq=False)
class SemanticIds:
    """Codebooks learned on the training split."""

    content: Content
    codebooks: tuple[npt.NDArray[np.float32], ...]
    """[K, C] each: of what the levels before leave."""
    codes: int
    """Codes of a level as asked for: prefixes are numbers to this base."""

    def prefixes(self, encoded: EncodedTable) -> list[npt.NDArray[np.int64]]:
        """Return the prefix of each level [N], :data:`NO_CODE` for items without content.

        Args:
            encoded: all features of items.
        """
        from scipy.cluster.vq import vq

        rest_NC, known_N = self.content.vectors(encoded)
        prefix_N, prefixes = np.zeros(len(rest_NC), np.int64), []
        for codebook in self.codebooks:
            centres_KC = codebook.astype(np.float64)
            code_N = vq(rest_NC, centres_KC)[0].astype(np.int64)
            rest_NC = rest_NC - centres_KC[code_N]
            prefix_N = prefix_N * self.codes + code_N
            prefixes.append(np.where(known_N, prefix_N, NO_CODE))
        return prefixes

    def save(self, directory: Path) -> None:
        """Write the codebooks."""
        np.savez(
            directory / _FILE,
            *self.codebooks,
            fields=np.array(self.content.fields, np.str_),
            scales=self.content.scales,
            codes=np.array(self.codes),
        )

    @classmethod
    def load(cls, directory: Path, levels: int) -> "SemanticIds":
        """Read what :meth:`save` wrote.

        Raises:
            CorruptError: the file is missing or damaged.
        """
        with reading(directory / _FILE), np.load(directory / _FILE) as file:
            content = Content(tuple(map(str, file["fields"])), file["scales"])
            return cls(content, tuple(file[f"arr_{level}"] for level in range(levels)), int(file["codes"]))

    @property
    def parts(self) -> list[bytes]:
        """Everything that decides a code, for a hash."""
        return [
            "|".join(self.content.fields).encode(),
            self.content.scales.tobytes(),
            *(c.tobytes() for c in self.codebooks),
        ]


def learn_semantic_ids(spec: SemanticSpec, encoded: EncodedTable) -> SemanticIds:
    """Learn the codebooks, one level after the other, on what the levels before leave.

    Args:
        spec: levels and codes.
        encoded: all features of items that training met, each once.
    """
    content = Content.of(encoded)
    whole_NC, known_N = content.vectors(encoded)
    rest_NC = whole_NC[known_N]
    codebooks = []
    for level in range(spec.levels):
        centres_KC = _centres(rest_NC, spec.codes, np.random.default_rng(level))
        codebooks.append(centres_KC.astype(np.float32))
        if len(rest_NC):
            from scipy.cluster.vq import vq

            rounded_KC = codebooks[-1].astype(np.float64)
            rest_NC = rest_NC - rounded_KC[vq(rest_NC, rounded_KC)[0]]
    return SemanticIds(content, tuple(codebooks), spec.codes)


def as_feature(ids: npt.NDArray[np.int64], prefix_N: npt.NDArray[np.int64]) -> Jagged:
    """Return a level's prefixes as a feature: no value for an item without content."""
    there = prefix_N != NO_CODE
    return Jagged(ids[there], there.astype(np.int32))


def _centres(points_NC: npt.NDArray[np.float64], codes: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return at most ``codes`` centres by Lloyd's rounds; a centre that loses all of its points stays where it was."""
    from scipy.cluster.vq import vq

    different_NC = np.unique(points_NC, axis=0)
    if len(different_NC) <= codes:
        return different_NC if len(different_NC) else np.zeros((1, points_NC.shape[1]))
    centres_KC = different_NC[rng.choice(len(different_NC), codes, replace=False)]
    for _ in range(_ROUNDS):
        code_N = vq(points_NC, centres_KC)[0]
        order = np.argsort(code_N, kind="stable")
        found, starts = np.unique(code_N[order], return_index=True)
        sums = np.add.reduceat(points_NC[order], starts, axis=0)
        centres_KC[found] = sums / np.diff([*starts, len(order)])[:, None]
    return centres_KC


def _sketch(encoded: EncodedTable) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Sum a signed place for every known value of an item, each feature with length one; numbers have a place each."""
    whole, known = np.zeros((encoded.rows, _SKETCH)), np.zeros(encoded.rows, bool)
    for name, bags in sorted(encoded.ids.items()):
        row = np.repeat(np.arange(encoded.rows), bags.lengths)
        useful = bags.values > UNKNOWN_ID
        row, place, sign = row[useful], *_places(name, bags.values[useful])
        count = np.bincount(row, minlength=encoded.rows)
        np.add.at(whole, (row, place), sign / np.sqrt(count[row]))
        known |= count > 0
    for name, numbers in sorted(encoded.numbers.items()):
        there = ~np.isnan(numbers)
        place, sign = _places(name, np.zeros(1, np.int64))
        whole[there, place[0]] += sign[0] * np.clip(numbers[there] / _USUAL, -1, 1)
        known |= there
    return whole, known


def _places(name: str, values: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return place and sign of values of a feature, by a mixing of their bits (splitmix64)."""
    mixed = values.astype(np.uint64) + np.uint64(crc32(name.encode()) << 32)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed % np.uint64(_SKETCH)).astype(np.int64), np.where(mixed >> np.uint64(63), 1.0, -1.0)
