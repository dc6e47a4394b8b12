"""A map of the item vectors: the two directions in which they differ most."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rf_platform.features.spec import FeatureSpec, FieldSpec

COLOURS = 7
"""Values of the colouring feature that get a colour of their own; the others share one."""
MOST_POINTS = 3000
"""Items drawn; of a larger catalog a random part."""


@dataclass(frozen=True, eq=False)
class Colouring:
    """Feature that the points are coloured by."""

    field: str
    """Name of the feature."""
    values: tuple[str, ...]
    """The most frequent values, most frequent first."""
    codes: npt.NDArray[np.int64]
    """``[n_items]``: an item's most frequent value as a position in ``values``, or ``len(values)`` for any other or none."""


@dataclass(frozen=True, eq=False)
class ItemMap:
    """Items on a plane."""

    points: npt.NDArray[np.float64]
    """``[n_items, 2]``."""
    explained: tuple[float, float]
    """Share of the variance along each of the two directions."""
    colouring: Colouring | None
    """None where no item feature is categorical."""
    titles: tuple[str, ...] | None
    """``[n_items]`` display titles; None where the service has no display field for items."""
    counts: npt.NDArray[np.int64]
    """``[n_items]`` training events."""
    shown: npt.NDArray[np.int64]
    """Item rows that are drawn, the most popular last."""


def item_map(
    vectors: npt.NDArray[np.floating], items: pa.Table, spec: FeatureSpec, counts: npt.NDArray[np.int64], *, seed: int
) -> ItemMap:
    """Lay out a catalog.

    Args:
        vectors: ``[n_items, D]``.
        items: the items' features by full name, in the same order.
        spec: which of them is categorical, and which is the title.
        counts: ``[n_items]`` training events.
        seed: which items are drawn where there are more than :data:`MOST_POINTS`.
    """
    points, explained = principal_plane(vectors)
    shown = np.arange(len(points))
    if len(shown) > MOST_POINTS:
        popular = np.argsort(-counts, kind="stable")[:100]
        rest = np.setdiff1d(shown, popular)
        shown = np.concatenate([popular, np.random.default_rng(seed).permutation(rest)[: MOST_POINTS - len(popular)]])
    return ItemMap(
        points=points,
        explained=explained,
        colouring=choose_colouring(items, [f for f in spec.inputs("item") if f.kind in ("categorical", "multi")]),
        titles=_titles(items, spec),
        counts=counts,
        shown=shown[np.argsort(counts[shown], kind="stable")],
    )


def principal_plane(
    vectors: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.float64], tuple[float, float]]:
    """Project vectors ``[n, D]`` on their first two principal components (PCA).

    Returns:
        Coordinates ``[n, 2]`` and the share of the variance along each of the two. The sign of a direction is chosen so
        that its largest component is positive.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    variances, directions = np.linalg.eigh(centred.T @ centred)
    axes = directions[:, ::-1][:, :2]
    axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0))
    shares = np.maximum(variances[::-1][:2], 0) / max(variances.sum(), np.finfo(np.float64).tiny)
    if axes.shape[1] < 2:  # vectors of one component lie on a line
        axes, shares = np.pad(axes, ((0, 0), (0, 1))), np.pad(shares, (0, 1))
    return centred @ axes, (float(shares[0]), float(shares[1]))


def choose_colouring(items: pa.Table, fields: list[FieldSpec]) -> Colouring | None:
    """Choose the feature with the most items under its most frequent values, of those with at least two values.

    An item with several values of a multi-valued feature counts for the one that is the most frequent in the catalog.
    """
    best: tuple[int, Colouring] | None = None
    for field in fields:
        owners, values = _flat(items[field.name])
        counted = sorted(pc.value_counts(values).to_pylist(), key=lambda v: (-v["counts"], str(v["values"])))
        if len(counted) < 2:
            continue
        chosen = [v["values"] for v in counted[:COLOURS]]
        codes = np.full(items.num_rows, len(chosen), np.int64)
        positions = pc.fill_null(pc.index_in(values, value_set=pa.array(chosen, values.type)), len(chosen))
        np.minimum.at(codes, owners, positions.to_numpy(zero_copy_only=False))
        coloured = int((codes < len(chosen)).sum())
        if best is None or coloured > best[0]:
            best = (coloured, Colouring(field.field, tuple(map(str, chosen)), codes))
    return best[1] if best else None


def _flat(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Return the non-null values of a scalar or list column, and the row of each."""
    rows = pa.array(np.arange(len(column)))
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        rows, column = pc.list_parent_indices(column), pc.list_flatten(column)
    present = pc.is_valid(column)
    rows, values = pc.filter(rows, present), pc.filter(column, present)
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return np.asarray(rows.to_numpy(), np.int64), values


def _titles(items: pa.Table, spec: FeatureSpec) -> tuple[str, ...] | None:
    display = next((f for f in spec.carried("item") if f.role == "display"), None)
    if display is None:
        return None
    return tuple("" if title is None else str(title) for title in items[display.name].to_pylist())
