"""Training examples of a re-ranker: places in training histories, each with its positive and what it competes with.

The towers were trained on the very events that a re-ranker learns from, and rank these far better than events to come: on
Amazon Toys 80% of the latest training events are among the first 100, of the validation events 30%. A re-ranker that learns
from them as they are learns to leave the retriever's order alone. So the share of an event in its own item's vector is taken
out again.

An item's vector is, to first order, a sum over its training events of the queries that it was the answer to. One event's part
is its query over the number of the item's events: ``y' = y - strength / events * query``, as in the jackknife (Efron, 1982).
What the event has left elsewhere in the towers is covered by the strength, which is chosen so that the retriever finds the
training events as often as it finds the validation targets.

Shapes: P positions, H hard negatives, D width of the towers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from rf_platform.cli.console import Tracker
from rf_platform.dataset import Dataset
from rf_training.evaluation.sequences import gather
from rf_training.loading.windows import check_training_events, ranges
from rf_training.rerank.cases import CANDIDATES, find_candidates
from rf_training.rerank.recipe import RerankTraining
from rf_training.rerank.towers import EncodedPositions, Noise, Positions, Towers

BISECTIONS = 30
MOST = 1024.0
"""Largest strength that is looked at."""


def left_out(unit_PD: Tensor, query_PD: Tensor, events_P: Tensor, strength: float) -> Tensor:
    """Return the unit vectors [P, D] of items without the share of one of their events.

    Args:
        unit_PD: their vectors.
        query_PD: the unit query of the event.
        events_P: training events of the item, at least 1.
        strength: see :func:`find_strength`.
    """
    return F.normalize(unit_PD - (strength / events_P)[:, None] * query_PD, dim=-1)


def find_strength(
    unit_PD: Tensor, bias_P: Tensor, query_PD: Tensor, events_P: Tensor, bar_P: Tensor, share: float
) -> float:
    """Return the least strength at which no more than ``share`` of the places have their positive above the bar.

    Args:
        unit_PD: vectors of the positives.
        bias_P: what the retriever adds to their scores for the item alone.
        query_PD: unit queries.
        events_P: training events of the positives.
        bar_P: the score that a positive has to reach at each place, that of the candidate in some place.
        share: of the validation targets that reach it.
    """

    def reached(strength: float) -> float:
        own_P = (left_out(unit_PD, query_PD, events_P, strength) * query_PD).sum(1) + bias_P
        return float((own_P > bar_P).float().mean())

    if reached(0.0) <= share:
        return 0.0
    low, high = 0.0, MOST
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) > share else (low, middle)
    return high


@dataclass(frozen=True)
class Examples:
    """One view of the training places: as the towers see them, perhaps under noise.

    Only places with a positive that the retriever finds are examples: a re-ranker is asked about nothing else, and from
    positives behind all of their negatives it would learn to turn the order round.
    """

    encoded: EncodedPositions
    """Histories before the positives."""
    positive_P: Tensor
    """int64, item of the training event at each place."""
    unit_PD: Tensor
    """Unit vectors of the positives, without what the event has added to them."""
    dot_P: Tensor
    """The retriever's scores of the positives with these vectors."""
    hard_PH: Tensor
    """int32, items that the retriever really returns there; -1 where it has fewer."""
    log_weight_PH: Tensor
    """Log of how many candidates each of them stands for."""
    places: int
    """Positions before those without a found positive were left out."""
    strength: float
    """Part of an event that was taken out of its own item's vector, see :mod:`rf_training.rerank.examples`."""
    known: float
    """Share of the positives that were among the first :data:`BAR` before it was."""

    def __len__(self) -> int:
        return len(self.positive_P)


def training_positions(dataset: Dataset, latest: int) -> tuple[Positions, npt.NDArray[np.int64]]:
    """Return the latest training events of every user that have an event before them, and the items of these events.

    Raises:
        RunError: the training split has no such events.
    """
    sequences, counts = dataset.sequences, dataset.training_counts.of_user
    check_training_events(np.maximum(counts - 1, 0))
    used = np.minimum(np.maximum(counts - 1, 0), latest)
    user = np.repeat(np.arange(len(counts)), used)
    length = ranges(counts - used, counts)
    begin = np.asarray(sequences.offsets, np.int64)[user]
    return Positions(user, length), np.asarray(sequences.item[begin + length], np.int64)


def make_view(
    towers: Towers, settings: RerankTraining, found: float, number: int = 0, progress: Tracker | None = None
) -> Examples:
    """Encode the training places, and find what the retriever returns at them.

    Args:
        towers: the frozen towers.
        settings: of the training.
        found: share of the validation targets that the retriever has among its first :data:`BAR`.
        number: of the view: each has draws of its own.
        progress: told the number of places done.
    """
    dataset, sequences = towers.dataset, towers.dataset.sequences
    places, positive = training_positions(dataset, settings.places)
    positive_P = torch.from_numpy(positive).to(towers.device)
    noisy = settings.tower_dropout or settings.unknown > 0
    noise = Noise(dropout=settings.tower_dropout, unknown=settings.unknown, seed=settings.seed * 1000 + number)
    encoded = towers.encode(places, noise if noisy else None)
    begin = np.asarray(sequences.offsets, np.int64)[places.user]
    rng = np.random.default_rng([settings.seed, number])
    hard = np.empty((len(places), min(settings.hard, towers.n_items)), np.int32)
    log_weight = np.empty(hard.shape, np.float32)
    bar_P, last_P = (torch.empty(len(places), device=towers.device) for _ in range(2))
    for start in range(0, len(places), POSITIONS_AT_ONCE):
        rows = slice(start, min(start + POSITIONS_AT_ONCE, len(places)))
        seen = gather(sequences.item, begin[rows], begin[rows] + places.length[rows])
        best = find_candidates(encoded.query_PQ[rows], towers.vectors_NQ, seen, CANDIDATES)
        other = best.item_PK != positive_P[rows][:, None]
        bar_P[rows], last_P[rows] = (_score_at(best.dot_PK, other, place) for place in (BAR, CANDIDATES - 1))
        usable = (other & best.dot_PK.isfinite()).cpu().numpy()
        hard[rows], log_weight[rows] = _draw(best.item_PK.cpu().numpy(), usable, hard.shape[1], rng)
        if progress is not None:
            progress.advance(rows.stop - rows.start)
    dim = towers.unit_ND.shape[1]
    unit_PD, query_PD = towers.unit_ND[positive_P], encoded.query_PQ[:, :dim]
    bias_P = towers.vectors_NQ[positive_P, dim:].sum(1)
    known = float(((unit_PD * query_PD).sum(1) + bias_P > bar_P).float().mean())
    events_P = torch.from_numpy(dataset.training_counts.of_item[positive]).to(towers.device).float()
    strength = find_strength(unit_PD, bias_P, query_PD, events_P, bar_P, found) if settings.leave_out else 0.0
    unit_PD = left_out(unit_PD, query_PD, events_P, strength)
    dot_P = (unit_PD * query_PD).sum(1) + bias_P
    kept = torch.nonzero(dot_P >= last_P)[:, 0]
    return Examples(
        encoded=encoded.take(kept),
        positive_P=positive_P[kept],
        unit_PD=unit_PD[kept],
        dot_P=dot_P[kept],
        hard_PH=torch.from_numpy(hard).to(towers.device)[kept],
        log_weight_PH=torch.from_numpy(log_weight).to(towers.device)[kept],
        places=len(places),
        strength=strength,
        known=known,
    )


def _score_at(dot_PK: Tensor, other_PK: Tensor, place: int) -> Tensor:
    """Return the score of the candidate in some place when the positive is left aside; -inf where there are fewer."""
    at_PK = other_PK & (other_PK.cumsum(1) == place)
    return dot_PK.masked_fill(~at_PK, -torch.inf).amax(1)


BAR = 100
"""Place in the retriever's order at which training and validation are made alike."""
POSITIONS_AT_ONCE = 4096


def _draw(
    item_PK: npt.NDArray[np.int32], usable_PK: npt.NDArray[np.bool_], count: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Draw ``count`` of the candidates without replacement, with a probability that falls as one over their place.

    The first places decide NDCG, the others fill the tail. By the Gumbel-top-k trick; its threshold also gives the weights with
    which the drawn ones stand for all (Kool et al., 2019, "Stochastic beams and where to find them", ICML).

    Returns:
        The items, -1 where there are fewer, and the logs of their weights.
    """
    P, K = item_PK.shape
    count_found = min(count, K - 1)
    log_rate_K = -np.log(np.arange(1, K + 1, dtype=np.float32))
    key_PK = (rng.gumbel(size=(P, K)) + log_rate_K).astype(np.float32)
    key_PK[~usable_PK] = -np.inf
    order = np.argpartition(-key_PK, count_found, axis=1)[:, : count_found + 1]
    key = np.take_along_axis(key_PK, order, 1)
    threshold = key[:, count_found:]
    chosen = order[:, :count_found]
    with np.errstate(over="ignore"):
        included = -np.expm1(-np.exp(log_rate_K[chosen] - threshold))
    drawn = np.where(np.take_along_axis(usable_PK, chosen, 1), np.take_along_axis(item_PK, chosen, 1), -1)
    padding = ((0, 0), (0, count - count_found))
    return (
        np.pad(drawn, padding, constant_values=-1),
        np.pad(-np.log(included), padding).astype(np.float32),
    )
