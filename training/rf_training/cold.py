"""Calibration of cold items: the shift of their scores with which they compete with items known by their id.

An item that training never met is encoded with the unknown id. The ids of the others were fitted to the training events, so
their scores run ahead of what they are worth on events to come, and a cold item ranks too low among them. One number, added to
the score of every cold item, sets the two right; it is served as part of an extra dimension of the item vectors.

Shapes: S shifts, C cases, N items.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from rf_platform.cli.console import track
from rf_platform.dataset import Dataset
from rf_training.config import NATURAL, ColdBudget
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.metrics import NDCG, Recall
from rf_training.evaluation.ranking import MAX_SCORES
from rf_training.evaluation.sequences import Split
from rf_training.loading.tables import EncodedSides, without_ids
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model_scorer import ModelScorer

SHIFTS = np.round(np.arange(0, 0.605, 0.01), 2)
"""Shifts that are tried, on the scale of a cosine."""
SURE = 2.0
"""Standard errors that the gain on all targets must exceed for scores to be raised."""
MIN_COLD = 100
"""Fewest cold validation targets that a budget is spent by; with fewer, known items play the part of cold ones."""
PRETEND_SHARE, MAX_PRETEND_SHARE = 0.05, 0.3
"""Share of the known items that then lose their ids: the first, or more, up to the second, for :data:`MIN_COLD` targets."""
FEWEST = 30
"""Nothing is calibrated on fewer targets of either kind."""
CASES = 4000
"""Most warm and most cold targets that are looked at."""
SCORES = 1 << 29
"""Most scores of either kind of target that are sorted: fewer targets of a large catalog are looked at."""


@dataclass(frozen=True, kw_only=True)
class ColdCalibration:
    """Effect of each shift on the validation targets, seen items excluded."""

    shift: float
    """The one chosen, see :func:`best_shift`."""
    budget: ColdBudget
    """Criterion of the choice, ``train.cold_budget``."""
    pretended: bool
    """Whether the cold items were known ones with their ids forgotten, for want of enough real ones."""
    warm_cases: int
    cold_cases: int
    cold_share: float
    """Share of the validation targets with an item without training events; forgotten ids do not count."""
    weight: float = 1.0
    """Warm targets that a cold one counts as in the choice, ``train.cold_weight``."""
    curve: list[dict[str, float]]
    """For every shift tried: ``shift`` and ``recall@20`` and ``ndcg@20`` of ``warm`` and ``cold`` targets, and of ``all`` of
    them, weighted by :attr:`cold_share`."""

    @property
    def before(self) -> str:
        """Recall without any shift, in words."""
        return _words(self.curve[0])

    @property
    def after(self) -> str:
        """Recall with the shift chosen, in words."""
        return _words(self._chosen)

    @property
    def price(self) -> str:
        """Price of the shift chosen, in words: the change of NDCG@20 of all targets in their mix, of warm and of cold ones."""
        return ", ".join(f"{kind} {self._change(kind)}" for kind in ("all", "warm", "cold"))

    @property
    def _chosen(self) -> dict[str, float]:
        return next(point for point in self.curve if point["shift"] == self.shift)

    def _change(self, kind: str) -> str:
        was, now = (point[f"{kind} ndcg@20"] for point in (self.curve[0], self._chosen))
        return f"{(now - was) / was:+.1%}" if was else f"{now - was:+.4f}"


@torch.inference_mode()
def calibrate(
    model: RetrievalFormer,
    dataset: Dataset,
    *,
    budget: ColdBudget,
    weight: float = 1.0,
    seed: int = 0,
    sides: EncodedSides | None = None,
) -> ColdCalibration | None:
    """Find the shift for cold items on the validation split; the model is left as it is.

    Args:
        model: a trained model.
        dataset: what it was trained on.
        budget: what the shift is chosen by, see :func:`best_shift`. Known items play the part of cold ones only where a budget
            is to be spent: of the natural mix they are no part.
        weight: warm targets that a cold one counts as, see :func:`best_shift`.
        seed: chooses cases, and the items to forget.
        sides: the dataset's items and users, where they are encoded already.

    Returns:
        None where there is nothing to calibrate, or nothing to do it by: a model without item ids, or fewer than :data:`FEWEST`
        validation targets of one of the two kinds.
    """
    if not model.config.item_id:
        return None
    assert float(model.cold_shift) == 0
    rng = np.random.default_rng(seed)
    cases = EvaluationCases.from_sequences(dataset.sequences, n_items=len(dataset.item_ids), split=Split.VALIDATION)
    trained, forgotten = dataset.trained_items, np.zeros(cases.n_items, bool)
    real = ~trained[cases.targets]
    pretended = budget != NATURAL and np.count_nonzero(real) < MIN_COLD
    if pretended:
        share = min(max(PRETEND_SHARE, MIN_COLD / len(cases)), MAX_PRETEND_SHARE)
        forgotten = trained & (rng.random(cases.n_items) < share)
    cold_items = ~trained | forgotten
    cold = cold_items[cases.targets]
    most = min(CASES, max(FEWEST, SCORES // cases.n_items))
    chosen = np.concatenate([np.sort(rng.permutation(np.flatnonzero(cold == kind))[:most]) for kind in (False, True)])
    if min(np.count_nonzero(cold[chosen]), np.count_nonzero(~cold[chosen])) < FEWEST:
        return None
    sides = sides or EncodedSides.of(dataset)
    scorer = ModelScorer(model, dataset, sides=without_ids(sides, forgotten[dataset.item_of_version]))
    draws = rng.random(len(chosen))
    step = max(1, MAX_SCORES // cases.n_items)
    parts = []
    with track("calibrating cold items", len(chosen)) as progress:
        for start in range(0, len(chosen), step):
            rows = slice(start, start + step)
            scores_CN = _unseen_scores(scorer, cases, chosen[rows])
            parts.append(ranks_by_shift(scores_CN, cases.targets[chosen[rows]], cold_items, draws[rows]))
            progress.advance(parts[-1].shape[1])
    ranks_SC, cold_C, cold_share = np.concatenate(parts, axis=1), cold[chosen], float(real.mean())
    best = best_shift(ranks_SC, cold_C, cold_share, budget, weight)
    return ColdCalibration(
        shift=float(SHIFTS[best]),
        budget=budget,
        pretended=bool(pretended),
        warm_cases=int((~cold_C).sum()),
        cold_cases=int(cold_C.sum()),
        cold_share=cold_share,
        weight=weight,
        curve=[
            _point(float(shift), ranks_C, cold_C, cold_share) for shift, ranks_C in zip(SHIFTS, ranks_SC, strict=True)
        ],
    )


def best_shift(
    ranks_SC: npt.NDArray[np.int64],
    cold_C: npt.NDArray[np.bool_],
    cold_share: float,
    budget: ColdBudget,
    weight: float = 1.0,
) -> int:
    """Return the place of the best shift among those tried; of equal ones the smallest.

    ``natural``: the one with the best NDCG@20 of all targets, which gives up on warm targets no more than cold ones gain, as
    often as there are of either and with a cold one counted ``weight`` times; it is 0 unless the gain exceeds :data:`SURE`
    standard errors. A number: the one with the best NDCG@20 of cold targets among those that cost the warm ones at most this
    share of theirs. Neither raises the cold targets' above the warm ones'.

    Args:
        ranks_SC: rank of each target at each shift, of which the first is 0.
        cold_C: which targets are cold; there are some of either kind.
        cold_share: share of cold targets among all.
        budget: ``train.cold_budget``.
        weight: ``train.cold_weight``.
    """
    ndcg_SC = NDCG(20)(ranks_SC)
    warm_SC, cold_SC = ndcg_SC[:, ~cold_C], ndcg_SC[:, cold_C]
    warm_S, cold_S = warm_SC.mean(axis=1), cold_SC.mean(axis=1)
    if not isinstance(budget, str):
        return int(np.argmax(np.where((warm_S >= (1 - budget) * warm_S[0]) & (cold_S <= warm_S), cold_S, -1.0)))
    parts = ((1 - cold_share, warm_SC - warm_SC[0]), (weight * cold_share, cold_SC - cold_SC[0]))
    gain_S = np.sum([share * change_SC.mean(axis=1) for share, change_SC in parts], axis=0)
    error_S = np.sqrt(np.sum([share**2 * d_SC.var(axis=1) / d_SC.shape[1] for share, d_SC in parts], axis=0))
    best = int(np.argmax(np.where(cold_S <= warm_S, gain_S, -1.0)))
    return best if gain_S[best] > SURE * error_S[best] else 0


def ranks_by_shift(
    scores_CN: npt.NDArray[np.float32],
    targets: npt.NDArray[np.int64],
    cold_items: npt.NDArray[np.bool_],
    draws: npt.NDArray[np.float64],
) -> npt.NDArray[np.int64]:
    """Return the target's rank for every shift [S, C].

    Args:
        scores_CN: of every item, ``-inf`` for one that is not ranked. Overwritten.
        targets: [C] item to find.
        cold_items: [N] which items a shift raises.
        draws: [C] uniform numbers in [0, 1) that decide between equals.
    """
    rows_C = np.arange(len(targets))
    target_C = scores_CN[rows_C, targets].copy()
    scores_CN[rows_C, targets] = -np.inf
    ahead_SC, equal_SC = (np.zeros((len(SHIFTS), len(targets)), np.int64) for _ in range(2))
    own_C = cold_items[targets].astype(np.float64)
    for part, raised in ((cold_items, 1.0), (~cold_items, 0.0)):
        part_CM = np.sort(scores_CN[:, part], axis=1)
        for row in rows_C:  # ahead: the item's score, raised or not, exceeds the target's, raised or not
            reach_S = (target_C[row] + SHIFTS * (own_C[row] - raised)).astype(np.float32)
            above_S = np.searchsorted(part_CM[row], reach_S, side="right")
            ahead_SC[:, row] += part_CM.shape[1] - above_S
            equal_SC[:, row] += above_S - np.searchsorted(part_CM[row], reach_S, side="left")
    ranks_SC: npt.NDArray[np.int64] = 1 + ahead_SC + (draws * (equal_SC + 1)).astype(np.int64)
    return ranks_SC


def _unseen_scores(
    scorer: ModelScorer, cases: EvaluationCases, chosen: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Return the scores of all items [C, N], ``-inf`` for those of the history, unless one is the target."""
    starts, stops = cases.starts[chosen], cases.stops[chosen]
    scores_CN: npt.NDArray[np.float32] = (
        (scorer.queries(cases.users[chosen], stops - starts) @ scorer.vectors_ND.T).cpu().numpy()
    )
    rows_C, targets = np.arange(len(chosen)), cases.targets[chosen]
    target_C = scores_CN[rows_C, targets].copy()
    for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        scores_CN[row, cases.event_items[start:stop]] = -np.inf
    scores_CN[rows_C, targets] = target_C
    return scores_CN


def _point(
    shift: float, ranks_C: npt.NDArray[np.int64], cold_C: npt.NDArray[np.bool_], cold_share: float
) -> dict[str, float]:
    point = {"shift": shift}
    for metric in (Recall(20), NDCG(20)):
        label = metric.label.lower()
        warm, cold = (float(metric(ranks_C[rows]).mean()) for rows in (~cold_C, cold_C))
        point |= {
            f"warm {label}": warm,
            f"cold {label}": cold,
            f"all {label}": (1 - cold_share) * warm + cold_share * cold,
        }
    return point


def _words(point: dict[str, float]) -> str:
    return f"all {point['all recall@20']:.4f}, warm {point['warm recall@20']:.4f}, cold {point['cold recall@20']:.4f}"
