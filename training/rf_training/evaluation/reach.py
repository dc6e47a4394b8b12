"""Catalog coverage and popularity of the recommendations to all users together."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_training.evaluation.scorer import Scorer
from rf_training.evaluation.segments import BANDS
from rf_training.evaluation.sequences import Jagged

TOP = 20
"""Length of the lists of recommendations that are looked at."""
NOTHING = -1
"""Stands in a list of recommendations where fewer items were left than places."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Recommendations of one scorer to all users of a split."""

    scorer: str
    coverage: float
    """Share of the catalog that is recommended to at least one user."""
    mean_rank: float | None
    """Mean popularity rank of the items recommended, every recommendation counted; 1 is the most popular item. None where nothing
    was recommended."""
    bands: dict[str, float]
    """Share of the recommendations that goes to each popularity band."""


@dataclass(frozen=True, kw_only=True)
class BandSize:
    """One popularity band of the catalog."""

    name: str
    size: int
    """Its items."""
    events: int
    """Training events of its items."""


@dataclass(frozen=True, kw_only=True)
class CatalogReach:
    """Recommendations of all scorers, beside the catalog and what the users did choose."""

    k: int
    """Recommendations for each user, seen items left out."""
    bands: tuple[BandSize, ...]
    """Popularity bands of the catalog; :attr:`rows` give their shares."""
    rows: tuple[Reach, ...]
    """The scorers in the order of the report, and last the targets, which the users chose themselves."""


class RecordedTop:
    """A scorer that passes on the scores of another one and keeps each user's best unseen items."""

    def __init__(self, scorer: Scorer, k: int, hidden: npt.NDArray[np.bool_] | None = None) -> None:
        """``hidden``: items that are not recommendable [items]."""
        self._scorer, self._k, self._hidden = scorer, k, hidden
        self._parts: list[npt.NDArray[np.int64]] = []

    @property
    def name(self) -> str:
        """Name of the other scorer."""
        return self._scorer.name

    @property
    def items(self) -> npt.NDArray[np.int64]:
        """``[users, k]`` item rows in no particular order, of all users scored so far; :data:`NOTHING` where too few are left."""
        return np.concatenate(self._parts)

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        """Return the other scorer's scores, ``[B, n_items]``."""
        scores = self._scorer.scores(users, histories)
        offered = scores if self._hidden is None else np.where(self._hidden, np.float32(-np.inf), scores)
        self._parts.append(top_unseen(offered, histories, self._k))
        return scores


def top_unseen(scores: npt.NDArray[np.float32], histories: Jagged, k: int) -> npt.NDArray[np.int64]:
    """Return the rows ``[B, k]`` of the best items outside each history; ``-inf`` scores are never chosen."""
    left = np.array(scores)
    left[histories.row_of_value, histories.values] = -np.inf
    k_left = min(k, left.shape[1])
    best = np.argpartition(-left, k_left - 1, axis=1)[:, :k_left]
    best[np.isneginf(np.take_along_axis(left, best, axis=1))] = NOTHING
    return np.pad(best, ((0, 0), (0, k - k_left)), constant_values=NOTHING)


def popularity_ranks(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the popularity rank of each item, 1 for the most training events; items that tie share their mean rank."""
    from scipy.stats import rankdata  # half a second, and servers import this room

    ranks: npt.NDArray[np.float64] = rankdata(-counts, method="average")
    return ranks


def catalog_reach(
    tops: Mapping[str, npt.NDArray[np.int64]],
    targets: npt.NDArray[np.int64],
    targets_label: str,
    counts: npt.NDArray[np.int64],
    bands: npt.NDArray[np.int64],
) -> CatalogReach:
    """Describe the recommendations of several scorers.

    Args:
        tops: ``[n_cases, TOP]`` recommendations by scorer, see :class:`RecordedTop`.
        targets: ``[n_cases]`` items that the users chose.
        targets_label: what the targets are called.
        counts: ``[n_items]`` training events.
        bands: ``[n_items]`` popularity band of each item.
    """
    sizes = [(name, bands == code) for code, name in enumerate(BANDS)]
    return CatalogReach(
        k=TOP,
        bands=tuple(BandSize(name=name, size=int(m.sum()), events=int(counts[m].sum())) for name, m in sizes),
        rows=(
            *(reach(name, items, counts, bands) for name, items in tops.items()),
            reach(targets_label, targets, counts, bands),
        ),
    )


def reach(
    scorer: str, items: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], bands: npt.NDArray[np.int64]
) -> Reach:
    """Describe recommendations.

    Args:
        scorer: name of the scorer that made them.
        items: item rows, of any shape; :data:`NOTHING` is left out.
        counts: ``[n_items]`` training events.
        bands: ``[n_items]`` popularity band of each item.
    """
    given = items[items != NOTHING]
    shares = np.bincount(bands[given], minlength=len(BANDS)) / max(1, len(given))
    return Reach(
        scorer=scorer,
        coverage=len(np.unique(given)) / max(1, len(counts)),
        mean_rank=float(popularity_ranks(counts)[given].mean()) if len(given) else None,
        bands=dict(zip(BANDS, map(float, shares), strict=True)),
    )
