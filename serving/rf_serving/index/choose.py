"""Choice of the index for a catalog."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.errors import ConfigError, UsageError
from rf_serving.index.device import find_device
from rf_serving.index.exact import ExactIndex
from rf_serving.index.hnsw import HnswIndex
from rf_serving.index.ivf_pq import IvfPqIndex
from rf_serving.index.milvus import MilvusIndex
from rf_serving.index.points import Points
from rf_serving.index.vector_index import VectorIndex

INDEX_KINDS: dict[str, type[VectorIndex]] = {
    index.kind: index for index in (ExactIndex, HnswIndex, IvfPqIndex, MilvusIndex)
}
"""All kinds by name: what options, help texts and bundles choose from."""
LOCAL_KINDS = {name: index for name, index in INDEX_KINDS.items() if not index.remote}
"""Those that need no other machine: what evaluations and benchmarks choose from."""
EXACT_LIMIT = 100_000
"""Largest catalog that ``auto`` scans: 1 ms a query for 64 dimensions on one core. Above, IVF-PQ answers sooner than HNSW at
every recall, in a fifth of the memory, and is built in a twentieth of the time (docs/benchmarks.md); HNSW is taken by name
only."""


def choose_kind(
    asked: str, items: int, option: str = "--kind", kinds: Mapping[str, type[VectorIndex]] = INDEX_KINDS
) -> type[VectorIndex]:
    """Return the index that an option asks for: a kind by name, or by the size of the catalog for ``auto``.

    Raises:
        UsageError: there is no such kind.
    """
    if asked == "auto":
        return ExactIndex if items <= EXACT_LIMIT else IvfPqIndex
    if asked not in kinds:
        raise UsageError(f"{option}={asked!r} is no kind of index; choose auto, {', '.join(kinds)}")
    return kinds[asked]


def build_index(
    kind: type[VectorIndex], vectors_ND: npt.NDArray[np.float32], points: Callable[[], Points]
) -> VectorIndex:
    """Build an index; what an engine needs to know of the items besides is asked for only where there is one."""
    return kind.build_points(vectors_ND, points()) if issubclass(kind, MilvusIndex) else kind.build(vectors_ND)


def open_index(
    kind: str,
    path: Path,
    vectors_ND: npt.NDArray[np.float32],
    settings: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> VectorIndex:
    """Load a bundle's index.

    Args:
        kind: its kind.
        path: what it was saved as.
        vectors_ND: the rows it was built from, best memory-mapped: the index keeps no copy.
        settings: the index settings of the bundle's manifest.
        device: ``RF_INDEX_DEVICE``, see :func:`find_device`.

    Raises:
        ConfigError: the bundle was built by a version that knows more kinds, or the device is not there.
        CorruptError: the file is no index of these rows.
    """
    if kind not in INDEX_KINDS:
        raise ConfigError(
            f"{path} is an index of kind '{kind}', and this version knows only {', '.join(INDEX_KINDS)}; upgrade, or build "
            f"the bundle again"
        )
    number = find_device(device)
    index = INDEX_KINDS[kind].load(path, vectors_ND, settings or {})
    if number is not None:
        index.to_device(number)
    return index
