"""Quality of a re-ranker: its order of the candidates of held-out targets.

Shapes: P cases, K candidates, U uniform items, M metrics.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rf_platform.cli.console import Tracker
from rf_training.evaluation.metrics import NDCG, Metric, Recall
from rf_training.rerank.cases import RerankCases
from rf_training.rerank.ranker import CorrectingRanker, Ranker
from rf_training.rerank.scoring import score_candidates

CUTOFFS = (5, 10, 20)
RANKED: tuple[Metric, ...] = (*(Recall(k) for k in CUTOFFS), *(NDCG(k) for k in CUTOFFS))
"""Metrics of the rank in the whole catalog."""
AUC, CANDIDATE_AUC = "auc", "candidate auc"
METRICS = (*(metric.label.lower() for metric in RANKED), AUC, CANDIDATE_AUC)
"""All metrics, in order, by their names in JSON.

``auc`` is the chance that the target scores above an item drawn uniformly from those that the user has not had, ``candidate auc``
the chance that it scores above another of the retriever's candidates. The target is scored whether the retriever found it or not,
and equal scores count half (Hanley and McNeil, 1982, Radiology 143(1)). Both are means over users (Rendle et al., 2009, UAI).
"""
LABELS = dict(zip(METRICS, (*(metric.label for metric in RANKED), "AUC", "AUC among candidates"), strict=True))
"""Their names in tables."""
SELECTION = "ndcg@10"
"""Metric that chooses among epochs, settings and re-rankers, on the validation split."""


@dataclass(frozen=True)
class Quality:
    """Ranks and metric values of one re-ranker, case by case."""

    rank_P: npt.NDArray[np.int64]
    """Rank of the target in the whole catalog, seen items excluded: what the retriever did not find keeps its place behind."""
    values_PM: npt.NDArray[np.float64]
    """:data:`METRICS` of every case."""

    def mean(self, metric: str) -> float:
        """Return the mean of a metric over the cases."""
        return float(self.values_PM[:, METRICS.index(metric)].mean())

    @property
    def means(self) -> dict[str, float]:
        """Return all means."""
        return {name: self.mean(name) for name in METRICS}


def measure(ranker: Ranker, item_states_NW: Tensor, cases: RerankCases, progress: Tracker | None = None) -> Quality:
    """Score the candidates, the target and the uniform items of every case, and compare.

    Args:
        ranker: in evaluation mode.
        item_states_NW: what it keeps of the catalog.
        cases: what to rank.
        progress: told the number of cases done.
    """
    dot_PX = _dots(cases)
    return _quality(cases, _scores(ranker, item_states_NW, cases, dot_PX, progress))


def measure_weighted(
    ranker: CorrectingRanker, item_states_NW: Tensor, cases: RerankCases, weights: Sequence[float]
) -> dict[float, Quality]:
    """Do the same for several weights of what the re-ranker adds to the retriever's score, which is scored once.

    Args:
        ranker: in evaluation mode, with the weight 1.
        item_states_NW: what it keeps of the catalog.
        cases: what to rank.
        weights: what to try.
    """
    dot_PX = _dots(cases)
    score_PX = _scores(ranker, item_states_NW, cases, dot_PX)
    plain_PX = dot_PX * ranker.log_scale.detach().exp()
    plain_PX = torch.where((cases.encoded.length_P > 0)[:, None], plain_PX, dot_PX)
    added_PX = torch.where(plain_PX.isfinite(), score_PX - plain_PX, 0.0)
    return {weight: _quality(cases, plain_PX + weight * added_PX) for weight in weights}


def _dots(cases: RerankCases) -> Tensor:
    return torch.cat([cases.candidates.dot_PK, cases.target_dot_P[:, None], cases.uniform_dot_PU], dim=1)


def _scores(
    ranker: Ranker, item_states_NW: Tensor, cases: RerankCases, dot_PX: Tensor, progress: Tracker | None = None
) -> Tensor:
    """Return the scores of the candidates, the target and the uniform items [P, K + 1 + U]."""
    parts = (cases.candidates.item_PK, cases.target_P[:, None].int(), cases.uniform_PU.int())
    return score_candidates(ranker, item_states_NW, cases.encoded, torch.cat(parts, dim=1), dot_PX, progress)


def _quality(cases: RerankCases, scores: Tensor) -> Quality:
    found, K = cases.candidates, cases.candidates.item_PK.shape[1]
    score_PX = scores.cpu().numpy()
    score_PK, target_P, score_PU = score_PX[:, :K], score_PX[:, K], score_PX[:, K + 1 :]
    own_PK = (found.item_PK == cases.target_P[:, None]).cpu().numpy()
    rival_PK = ~own_PK & found.dot_PK.isfinite().cpu().numpy()
    above_P = np.count_nonzero((score_PK > target_P[:, None]) & rival_PK, axis=1)
    equal_P = np.count_nonzero((score_PK == target_P[:, None]) & rival_PK, axis=1)
    place_P = 1 + above_P + (cases.tie_P * (equal_P + 1)).astype(np.int64)
    rank_P = np.where(own_PK.any(1), place_P, np.maximum(cases.rank_P, K + 1))
    columns = [metric(rank_P) for metric in RANKED]
    columns.append(_auc(score_PU, target_P, cases.uniform_real_PU.cpu().numpy()))
    columns.append(_auc(score_PK, target_P, rival_PK))
    return Quality(rank_P, np.stack(columns, axis=1))


def _auc(
    score_PX: npt.NDArray[np.float32], target_P: npt.NDArray[np.float32], real_PX: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return the chance that the target scores above another item of each case; 0.5 where there is none."""
    below = np.count_nonzero((score_PX < target_P[:, None]) & real_PX, axis=1)
    equal = np.count_nonzero((score_PX == target_P[:, None]) & real_PX, axis=1)
    count = np.count_nonzero(real_PX, axis=1)
    return np.where(count > 0, (below + 0.5 * equal) / np.maximum(count, 1), 0.5)
