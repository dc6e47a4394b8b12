"""Which index a catalog gets."""

from pathlib import Path

from rf_platform.errors import ConfigError, UsageError
from rf_serving.index.exact import ExactIndex
from rf_serving.index.hnsw import HnswIndex
from rf_serving.index.vector_index import VectorIndex

INDEX_KINDS: dict[str, type[VectorIndex]] = {index.kind: index for index in (ExactIndex, HnswIndex)}
EXACT_LIMIT = 100_000
"""Largest catalog that ``auto`` scans: about 1 ms a query for 64 dimensions on one core."""


def choose_kind(asked: str, items: int, option: str = "--kind") -> type[VectorIndex]:
    """Return the index that an option asks for: a kind by name, or by the size of the catalog for ``auto``.

    Raises:
        UsageError: there is no such kind.
    """
    if asked == "auto":
        return ExactIndex if items <= EXACT_LIMIT else HnswIndex
    if asked not in INDEX_KINDS:
        raise UsageError(f"{option}={asked!r} is no kind of index; choose auto, {' or '.join(INDEX_KINDS)}")
    return INDEX_KINDS[asked]


def open_index(kind: str, path: Path) -> VectorIndex:
    """Load a bundle's index.

    Raises:
        ConfigError: the bundle was built by a version that knows more kinds.
        CorruptError: the file is no index.
    """
    if kind not in INDEX_KINDS:
        raise ConfigError(
            f"{path} is an index of kind '{kind}', and this version knows only {', '.join(INDEX_KINDS)}; upgrade, or build "
            f"the bundle again"
        )
    return INDEX_KINDS[kind].load(path)
