"""Items around another one as points on a plane."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rf_platform.bundle import files
from rf_platform.registry import BundleRecord
from rf_training.report.item_map import principal_plane

WIDTH, HEIGHT = 520, 360
_EDGE = 24


class Point(NamedTuple):
    """A point of the drawing."""

    x: float
    y: float


def places(bundle: BundleRecord, rows: Sequence[int]) -> list[Point]:
    """Return the places of items in the plane in which they differ most, in units of the drawing.

    Args:
        bundle: has the vectors.
        rows: of the items, at least two.
    """
    vectors = np.load(bundle.path / files.VECTORS, mmap_mode="r")[list(rows)]
    points, _ = principal_plane(vectors)
    low, span = points.min(0), np.maximum(np.ptp(points, axis=0), 1e-12)
    scaled = (points - low) / span
    return [
        Point(_EDGE + x * (WIDTH - 2 * _EDGE), HEIGHT - _EDGE - y * (HEIGHT - 2 * _EDGE)) for x, y in scaled.tolist()
    ]
