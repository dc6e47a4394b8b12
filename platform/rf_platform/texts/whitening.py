"""Whitening: vectors moved, turned and scaled so that no direction of them is louder than another.

The vectors of a sentence encoder share most of what they are: their mean, and a few directions with most of the variance. These
say that texts are titles, and not which. Shapes: T texts, W width of the encoder, D width of the whitened vectors.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DIMENSIONS = 128
"""Most directions that are kept: those of the largest variance."""
_SHARE = 1e-9
"""Variance, as a share of the largest, below which a direction is rounding."""


class Moments:
    """Mean and covariance of vectors that come some at a time."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self._sum_W = np.zeros(width)
        self._products_WW = np.zeros((width, width))

    def add(self, vectors_TW: npt.NDArray[np.float32]) -> None:
        """Take vectors in."""
        exact_TW = vectors_TW.astype(np.float64)
        self.count += len(exact_TW)
        self._sum_W += exact_TW.sum(axis=0)
        self._products_WW += exact_TW.T @ exact_TW

    def whitening(self, dimensions: int = DIMENSIONS) -> "Whitening":
        """Return the whitening of what was taken in; without two different vectors it gives zero.

        The scale of a direction is one over its deviation, damped by the variance of the last direction kept: what is little more
        than noise is not blown up to the size of the others. Whitened vectors have length one on average, as embeddings start.
        """
        mean_W = self._sum_W / max(1, self.count)
        covariance_WW = self._products_WW / max(1, self.count) - np.outer(mean_W, mean_W)
        variance_W, directions_WW = np.linalg.eigh(covariance_WW)
        variance_W, directions_WW = variance_W[::-1], directions_WW[:, ::-1]
        D = int(np.count_nonzero(variance_W[:dimensions] > _SHARE * max(variance_W[0], 1e-12)))
        if D == 0:
            return Whitening(mean_W.astype(np.float32), np.zeros((len(mean_W), 1), np.float32))
        variance_D, directions_WD = variance_W[:D], directions_WW[:, :D]
        # An eigenvector's sign is arbitrary: its largest element is positive.
        largest = np.abs(directions_WD).argmax(axis=0)
        directions_WD = directions_WD * np.sign(directions_WD[largest, np.arange(D)])
        scaled_WD = directions_WD / np.sqrt(variance_D + variance_D[-1])
        length = np.sqrt((variance_D / (variance_D + variance_D[-1])).sum())
        return Whitening(mean_W.astype(np.float32), (scaled_WD / length).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Whitening:
    """An affine map learned on the training split."""

    mean_W: npt.NDArray[np.float32]
    matrix_WD: npt.NDArray[np.float32]

    @property
    def width(self) -> int:
        """Width of the whitened vectors."""
        return int(self.matrix_WD.shape[1])

    def __call__(self, vectors_TW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the whitened vectors [T, D]."""
        return np.asarray((vectors_TW - self.mean_W) @ self.matrix_WD, np.float32)
