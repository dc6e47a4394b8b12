"""First users that no bundle counts any more, since the training of every bundle has met them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rf_platform.bundle import files
from rf_platform.features.spec import FeatureSpec
from rf_platform.registry.evidence import EvidenceJournal, NotedAt
from rf_training.fold_in.rule import FoldIn


def learned_by_all(evidence: EvidenceJournal, bundles: Iterable[Path], before_us: int) -> list[int]:
    """Return the numbers of first users whose event is older than a time, and that none of the bundles counts.

    Args:
        evidence: the first users.
        bundles: directories of all bundles that may serve; one without a rule of evidence counts none.
        before_us: microseconds since 1970, UTC.

    Raises:
        CorruptError: a bundle is damaged.
    """
    rest = list(evidence.noted_before(before_us))
    for bundle in bundles:
        if not rest:
            break
        if (bundle / files.FOLD_IN).exists() and (bundle / files.POPULARITY).exists():
            learned = _learned(bundle, rest).tolist()
            rest = [each for each, known in zip(rest, learned, strict=True) if known]
    return [each.sequence for each in rest]


def _learned(bundle: Path, users: Sequence[NotedAt]) -> npt.NDArray[np.bool_]:
    """Return which first users the training of a bundle has met [B]."""
    key = FeatureSpec.load(bundle / files.SPEC).item.join_key
    ids = pq.read_table(bundle / files.ITEMS, columns=[key])[0].cast(pa.string())
    popularity_N = np.load(bundle / files.POPULARITY, mmap_mode="r")
    wanted = pa.array(sorted({user.item_id for user in users}), pa.string())
    rows = np.flatnonzero(pc.is_in(ids, value_set=wanted).to_numpy())
    trained = dict(zip(ids.take(rows).to_pylist(), popularity_N[rows].tolist(), strict=True))
    trained_B = np.array([trained.get(user.item_id, 0) for user in users], np.int64)
    timestamp_B = np.array([user.timestamp_us for user in users], np.int64)
    return FoldIn.load(bundle / files.FOLD_IN).learned(trained_B, timestamp_B)
