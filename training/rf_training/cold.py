"""Calibration of cold items: how much their scores are raised so that they compete with items known by their id.

An item that training never met is encoded with the unknown id. The ids of the others were fitted to the training events, so
their scores run ahead of what they are worth on events to come, and a cold item ranks too low among them. One number, added to
the score of every cold item, sets the two right; it is served as part of an extra dimension of the item vectors.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from rf_platform.cli.console import track
from rf_platform.dataset import Dataset
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.metrics import NDCG, Recall
from rf_training.evaluation.ranking import MAX_SCORES
from rf_training.evaluation.sequences import Split
from rf_training.loading.tables import EncodedSides, without_ids
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model_scorer import ModelScorer

SHIFTS = np.round(np.arange(0, 0.605, 0.01), 2)
"""What is tried, on the scale of a cosine."""
MIN_COLD = 100
"""Fewest cold validation targets that are believed; with fewer, known items play the part of cold ones."""
PRETEND_SHARE, MAX_PRETEND_SHARE = 0.05, 0.3
"""Share of the known items whose ids are then forgotten: the first, or more, up to the second, for :data:`MIN_COLD` targets."""
FEWEST = 30
"""Nothing is calibrated on fewer targets of either kind."""
CASES = 4000
"""Most warm and most cold targets that are looked at."""
SCORES = 1 << 29
"""Most scores of either kind of target that are sorted: fewer targets of a large catalog are looked at."""


@dataclass(frozen=True, kw_only=True)
class ColdCalibration:
    """What each shift would do to the validation targets, seen items excluded."""

    shift: float
    """The one chosen: the best for cold targets among those that cost the warm ones no more than the budget."""
    pretended: bool
    """Whether the cold items were known ones with their ids forgotten, for want of enough real ones."""
    warm_cases: int
    cold_cases: int
    curve: list[dict[str, float]]
    """For every shift tried: ``shift`` and ``recall@20`` and ``ndcg@20`` of ``warm`` and ``cold`` targets."""

    @property
    def before(self) -> str:
        """Recall without any shift, in words."""
        return _words(self.curve[0])

    @property
    def after(self) -> str:
        """Recall with the shift chosen, in words."""
        return _words(next(point for point in self.curve if point["shift"] == self.shift))


@torch.inference_mode()
def calibrate(
    model: RetrievalFormer, dataset: Dataset, *, budget: float, seed: int = 0, sides: EncodedSides | None = None
) -> ColdCalibration | None:
    """Find the shift for cold items on the validation split; the model is left as it is.

    Args:
        model: a trained model.
        dataset: what it was trained on.
        budget: largest share of the warm targets' NDCG@20 that may be given up.
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
    pretended = np.count_nonzero(~trained[cases.targets]) < MIN_COLD
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
            parts.append(_ranks(scorer, cases, chosen[rows], cold_items, draws[rows]))
            progress.advance(parts[-1].shape[1])
    ranks_SC = np.concatenate(parts, axis=1)
    kinds = {"warm": ~cold[chosen], "cold": cold[chosen]}
    curve = [
        {"shift": float(shift)}
        | {
            f"{kind} {metric.label.lower()}": float(metric(ranks_C[rows]).mean())
            for kind, rows in kinds.items()
            for metric in (Recall(20), NDCG(20))
        }
        for shift, ranks_C in zip(SHIFTS, ranks_SC, strict=True)
    ]
    floor = (1 - budget) * curve[0]["warm ndcg@20"]
    best = int(np.argmax([p["cold ndcg@20"] if p["warm ndcg@20"] >= floor else -1.0 for p in curve]))
    return ColdCalibration(
        shift=float(SHIFTS[best]),
        pretended=bool(pretended),
        warm_cases=int(kinds["warm"].sum()),
        cold_cases=int(kinds["cold"].sum()),
        curve=curve,
    )


def _ranks(
    scorer: ModelScorer,
    cases: EvaluationCases,
    chosen: npt.NDArray[np.int64],
    cold_items: npt.NDArray[np.bool_],
    draws: npt.NDArray[np.float64],
) -> npt.NDArray[np.int64]:
    """Return the target's rank among unseen items for every shift, [shifts, cases]; ``draws`` decide between equals."""
    users, lengths, targets = cases.users[chosen], (cases.stops - cases.starts)[chosen], cases.targets[chosen]
    scores_CN = (scorer.queries(users, lengths) @ scorer.vectors_ND.T).numpy()
    target_C = scores_CN[np.arange(len(chosen)), targets].copy()
    for row, case in enumerate(chosen):
        scores_CN[row, cases.event_items[cases.starts[case] : cases.stops[case]]] = -np.inf
        scores_CN[row, targets[row]] = -np.inf
    ahead_SC, equal_SC = (np.zeros((len(SHIFTS), len(chosen)), np.int64) for _ in range(2))
    own_C = cold_items[targets].astype(np.float64)
    for part, raised in ((cold_items, 1.0), (~cold_items, 0.0)):
        part_CM = np.sort(scores_CN[:, part], axis=1)
        for row in range(len(chosen)):  # ahead: the item's score, raised or not, exceeds the target's, raised or not
            reach_S = (target_C[row] + SHIFTS * (own_C[row] - raised)).astype(np.float32)
            above_S = np.searchsorted(part_CM[row], reach_S, side="right")
            ahead_SC[:, row] += part_CM.shape[1] - above_S
            equal_SC[:, row] += above_S - np.searchsorted(part_CM[row], reach_S, side="left")
    ranks_SC: npt.NDArray[np.int64] = 1 + ahead_SC + (draws * (equal_SC + 1)).astype(np.int64)
    return ranks_SC


def _words(point: dict[str, float]) -> str:
    return f"warm {point['warm recall@20']:.4f}, cold {point['cold recall@20']:.4f}"
