"""The re-ranker of a bundle, and what it keeps of each item.

Shapes: N items, D width of the towers, W width of what is kept of an item.
"""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from rf_platform.bundle import files
from rf_platform.errors import CorruptError, RunError
from rf_training.rerank.kinds import load_ranker
from rf_training.rerank.ranker import Ranker

KEPT = np.dtype(np.float16)
"""Type of what is kept of items: half the memory of float32, for scores that differ by less than a thousandth."""
_AT_ONCE = 65_536


def write_reranker(reranker: Path, items_ND: npt.NDArray[np.float32], bundle: Path) -> str:
    """Copy the re-ranker of a run into a bundle that is being built, with what it keeps of the items; returns its kind.

    Args:
        reranker: directory of the re-ranker.
        items_ND: the items' unit vectors.
        bundle: directory of the bundle.

    Raises:
        CorruptError: the re-ranker cannot be read, or was trained on towers of another width.
        RunError: it gives numbers that are not finite.
    """
    dim = items_ND.shape[1]
    ranker = _load(reranker, dim)
    shutil.copytree(reranker, bundle / files.RERANKER)
    item_states_NW = item_states(ranker, items_ND, dim)
    if not np.isfinite(item_states_NW).all():
        raise RunError(
            f"the re-ranker {reranker} gives numbers that are not finite; train it again, or leave it out with --no-reranker"
        )
    np.save(bundle / files.ITEM_STATES, item_states_NW)
    return ranker.kind


def open_reranker(bundle: Path, items: int, dim: int) -> tuple[Ranker | None, npt.NDArray[np.floating] | None]:
    """Return the re-ranker of a bundle and what it keeps of the items [N, W], memory-mapped; None for both without one.

    Args:
        bundle: directory of the bundle.
        items: number of its items, N.
        dim: width of its towers, D.

    Raises:
        CorruptError: it cannot be read, does not belong to these towers, or not to what is kept of the items.
    """
    if not (bundle / files.RERANKER).exists():
        return None, None
    ranker = _load(bundle / files.RERANKER, dim)
    if not (bundle / files.ITEM_STATES).exists():
        raise CorruptError(f"the bundle {bundle} has a re-ranker and no {files.ITEM_STATES}; build it again")
    item_states_NW: npt.NDArray[np.floating] = np.load(bundle / files.ITEM_STATES, mmap_mode="r")
    if item_states_NW.shape != (items, ranker.item_width):
        raise CorruptError(
            f"{bundle / files.ITEM_STATES} has the shape {item_states_NW.shape}, where {items} items and the re-ranker "
            f"'{ranker.kind}' need {(items, ranker.item_width)}; build the bundle again"
        )
    return ranker, item_states_NW


@torch.inference_mode()
def item_states(ranker: Ranker, vectors_ND: npt.NDArray[np.float32], dim: int) -> npt.NDArray[np.floating]:
    """Return what a re-ranker keeps of items [N, W], from their vectors; a bias in these, beyond ``dim``, has no part in it."""
    parts = [
        ranker.item_state(torch.from_numpy(np.array(vectors_ND[start : start + _AT_ONCE, :dim]))).numpy()
        for start in range(0, max(1, len(vectors_ND)), _AT_ONCE)
    ]
    # What is too large for the type becomes infinite, and the caller refuses it.
    with np.errstate(over="ignore"):
        return np.concatenate([part.astype(KEPT) for part in parts])


def no_item_states(items: int) -> npt.NDArray[np.floating]:
    """Return what is kept of some items where nothing re-ranks them: rows of no width."""
    return np.empty((items, 0), KEPT)


def _load(directory: Path, dim: int) -> Ranker:
    ranker = load_ranker(directory)
    if ranker.dim != dim:
        raise CorruptError(
            f"the re-ranker {directory} was trained on vectors of {ranker.dim} numbers, and the towers give {dim}; train it "
            f"again on this run"
        )
    return ranker.eval()
