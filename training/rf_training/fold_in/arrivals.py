"""Arrival curve: how well items are found after the first events of their life.

The model is frozen. Items without training events get the vector that the rule of evidence gives them after none, one, two, five
events and so on, as a server has them at that moment, and everything held out is ranked again.

Shapes: C cases, N items, M cold items, S shifts, T best scores kept, D width.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rf_platform.cli.console import track
from rf_platform.dataset import Dataset
from rf_platform.errors import RunError
from rf_training.evaluation.bootstrap import Estimate, bootstrap_means, estimates
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.ranking import MAX_SCORES
from rf_training.evaluation.sequences import Split
from rf_training.fold_in.first_events import FirstEvents
from rf_training.fold_in.fitting import fold_in_of
from rf_training.fold_in.population import queries_of, tracked_queries_of
from rf_training.fold_in.rule import Evidence, Floats, FoldIn, unit
from rf_training.model_scorer import ModelScorer

STEPS = (0, 1, 2, 5, 10, 20, 50)
"""Numbers of first events after which items are looked at."""
TOP = 20
"""A target among this many best unseen items is found."""
PARITY_SHIFTS = np.round(np.arange(-0.3, 0.605, 0.01), 2).astype(np.float32)
"""Shifts of the scores of cold items that are tried for parity."""
_JITTER = 1e-5


@dataclass(frozen=True, kw_only=True)
class ArrivalRow:
    """Recall@20, seen items excluded, with items at one number of first events."""

    events: int
    """Most first events of an item that count."""
    known: float
    """Events of the target that did, on average over the cold targets: some have fewer, or had fewer by then."""
    warm: Estimate | None
    """Targets with training events, among all items; None where there are none."""
    cold: Estimate
    """Targets without, among all items."""
    among_cold: Estimate
    """The same among items without training events alone."""
    parity: float | None
    """Recall of warm and of cold targets at the shift of cold scores that makes them equal; None if no shift does."""
    parity_shift: float | None
    """That shift, beside the one that is served."""


@dataclass(frozen=True, kw_only=True)
class ArrivalCurve:
    """Recall of new items by their first events, and of the others beside them."""

    split: str
    """``validation`` or ``test``."""
    clock: bool
    """Whether events count in the order of time, for a case those before it; else in a random order of users."""
    warm_targets: int
    cold_targets: int
    items: int
    cold_items: int
    prior: float
    """Users that the content of an item counts as."""
    seed: int
    """Of the order of users, of ties and of resampling."""
    resamples: int
    rows: tuple[ArrivalRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the curve as plain values for JSON."""
        return asdict(self)


def arrival_curve(
    scorer: ModelScorer,
    dataset: Dataset,
    events: FirstEvents,
    *,
    temperature: float,
    split: Split,
    seed: int,
    resamples: int = 1000,
    steps: Sequence[int] = STEPS,
) -> ArrivalCurve:
    """Rank the held-out targets with items at several numbers of first events.

    Args:
        scorer: the model.
        dataset: that it was trained on.
        events: the first events of its cold items.
        temperature: that it was trained with.
        split: has the targets.
        seed: of ties and of resampling.
        resamples: bootstrap samples behind the intervals.
        steps: numbers of first events.

    Raises:
        RunError: the split is empty, or none of its targets is an item without training events.
    """
    cases = EvaluationCases.from_sequences(
        dataset.sequences, n_items=dataset.n_items, split=split, trained=dataset.trained_items
    )
    if not cases.cold.any():
        raise RunError(
            f"no {split.label} target of dataset '{dataset.name}' is an item without training events; build one with "
            f"`rf dataset build --protocol cold-items` and train on it"
        )
    rule = fold_in_of(scorer, dataset, temperature)
    states = _States.of(scorer, dataset, events, rule, max(steps))
    hits = [np.zeros((len(PARITY_SHIFTS), len(cases)), np.bool_) for _ in steps]
    among = [np.zeros(len(cases), np.bool_) for _ in steps]
    known = [np.zeros(len(cases), np.int64) for _ in steps]
    board = _Board(scorer, cases, states.items, seed)
    chunk = max(1, MAX_SCORES // max(dataset.n_items, len(states.vectors)))
    moments = np.asarray(dataset.sequences.timestamp)[cases.stops]
    with track(f"Ranking {dataset.n_items} items for {len(cases)} users at {len(steps)} ages", len(cases)) as progress:
        for start in range(0, len(cases), chunk):
            rows = slice(start, min(start + chunk, len(cases)))
            view = board.view(rows)
            passed_CM = states.passed(moments[rows])
            score_CZ = view.query_CD @ states.vectors.T
            for place, most in enumerate(steps):
                count_CM = np.minimum(passed_CM, most)
                scores_CM = np.take_along_axis(score_CZ, states.first_M + count_CM, axis=1)
                hits[place][:, rows], among[place][rows] = view.found(scores_CM)
                known[place][rows] = view.of_target(count_CM)
            progress.advance(rows.stop - rows.start)
    return ArrivalCurve(
        split=split.label,
        clock=events.clock,
        warm_targets=int((~cases.cold).sum()),
        cold_targets=int(cases.cold.sum()),
        items=dataset.n_items,
        cold_items=len(states.items),
        prior=rule.prior,
        seed=seed,
        resamples=resamples,
        rows=tuple(
            _row(most, cases.cold, known_C, hits_SC, among_C, resamples, seed)
            for most, known_C, hits_SC, among_C in zip(steps, known, hits, among, strict=True)
        ),
    )


@dataclass(frozen=True, eq=False)
class _States:
    """The vectors of the cold items after every number of events that any case may see."""

    items: npt.NDArray[np.int64]
    """[M]: rows of the cold items."""
    vectors: Floats
    """[Z, D]: one item after the other, each after no event, after one and so on."""
    first_M: npt.NDArray[np.int64]
    """[M]: the item's state after no event."""
    times: tuple[npt.NDArray[np.int64], ...] | None
    """Of each item the times of its events; None without a clock."""
    count_M: npt.NDArray[np.int64]
    """[M]: its events."""

    @classmethod
    def of(cls, scorer: ModelScorer, dataset: Dataset, events: FirstEvents, rule: FoldIn, most: int) -> "_States":
        items = np.flatnonzero(~dataset.trained_items)
        built_MD = scorer.unit_vectors.cpu().numpy()[items]
        chosen = np.flatnonzero(events.place < most)
        query_ED = tracked_queries_of(
            scorer, events.user[chosen], events.length[chosen], f"Reading {len(chosen)} first events"
        )
        query_ED = unit(query_ED[:, : built_MD.shape[1]])
        owner_E = np.searchsorted(items, events.item[chosen])
        count_M = np.bincount(owner_E, minlength=len(items))
        first_M = np.concatenate([[0], np.cumsum(count_M + 1)[:-1]])
        owner_Z = np.repeat(np.arange(len(items)), count_M + 1)
        sum_ZD = np.zeros((len(owner_Z), built_MD.shape[1]), np.float32)
        event_Z = first_M[owner_E] + events.place[chosen] + 1
        sum_ZD[event_Z] = query_ED
        running_ZD = np.cumsum(sum_ZD, axis=0, dtype=np.float64)
        sum_ZD = (running_ZD - running_ZD[first_M][owner_Z]).astype(np.float32)  # a state's first row adds nothing
        number_Z = np.arange(len(owner_Z)) - first_M[owner_Z]
        vectors = rule.moved(built_MD[owner_Z], np.zeros(len(owner_Z), np.int64), Evidence(sum_ZD, number_Z))
        times = None
        if events.clock:
            times = tuple(np.split(events.timestamp[chosen], np.cumsum(count_M)[:-1]))
        return cls(items, vectors, first_M, times, count_M)

    def passed(self, moments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return how many events of every item were over at each moment [C, M]; without a clock all of them."""
        if self.times is None:
            return np.broadcast_to(self.count_M, (len(moments), len(self.items)))
        return np.stack([np.searchsorted(each, moments, side="left") for each in self.times], axis=1)


class _Board:
    """Queries, trained items and seen items, which are the same at every age."""

    def __init__(
        self, scorer: ModelScorer, cases: EvaluationCases, cold_items: npt.NDArray[np.int64], seed: int
    ) -> None:
        self._scorer, self._cases, self._cold = scorer, cases, cold_items
        vectors_ND = scorer.vectors_ND.cpu().numpy()
        self._width = scorer.unit_vectors.shape[1]
        self._warm = np.flatnonzero(cases.trained)
        self._warm_ND = vectors_ND[self._warm, : self._width]
        own_N = vectors_ND[:, self._width :].sum(
            axis=1
        )  # the item's bias and the shift of cold ones, where there are any
        self._bias_N = own_N + np.random.default_rng(seed).uniform(0, _JITTER, len(own_N)).astype(np.float32)

    def view(self, rows: slice) -> "_View":
        cases = self._cases
        query_CD = queries_of(self._scorer, cases.users[rows], (cases.stops - cases.starts)[rows])[:, : self._width]
        seen_row, seen_item = cases.seen(rows.start, rows.stop)
        targets = cases.targets[rows]
        others = seen_item != targets[seen_row]
        seen_row, seen_item = seen_row[others], seen_item[others]
        place_N = np.empty(cases.n_items, np.int64)
        place_N[self._warm], place_N[self._cold] = np.arange(len(self._warm)), np.arange(len(self._cold))
        trained = cases.trained[seen_item]
        scores = query_CD @ self._warm_ND.T + self._bias_N[self._warm]
        known = np.flatnonzero(cases.trained[targets])
        target_C = np.full(len(targets), -np.inf, np.float32)
        target_C[known] = scores[known, place_N[targets[known]]]
        scores[known, place_N[targets[known]]] = -np.inf
        scores[seen_row[trained], place_N[seen_item[trained]]] = -np.inf
        return _View(
            query_CD=query_CD,
            target_C=target_C,
            cold_C=cases.cold[rows],
            warm_CT=_best(scores),
            place_C=place_N[targets],
            bias_M=self._bias_N[self._cold],
            seen=(seen_row[~trained], place_N[seen_item[~trained]]),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class _View:
    """Some of the cases."""

    query_CD: Floats
    target_C: Floats
    """Score of a warm target."""
    cold_C: npt.NDArray[np.bool_]
    warm_CT: Floats
    """The best scores of trained items that the user has not seen, without the target."""
    place_C: npt.NDArray[np.int64]
    """Place of the target among the trained or among the cold items."""
    bias_M: Floats
    seen: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    """Case and cold item of what its user has seen."""

    def found(self, scores_CM: Floats) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return whether each target is found at every shift [S, C], and among cold items alone [C]."""
        scores_CM = scores_CM + self.bias_M
        cold = np.flatnonzero(self.cold_C)
        target_C = self.target_C.copy()
        target_C[cold] = scores_CM[cold, self.place_C[cold]]
        scores_CM[cold, self.place_C[cold]] = -np.inf
        scores_CM[self.seen] = -np.inf
        best_CT = _best(scores_CM)
        own_C, found = self.cold_C.astype(np.float32), []
        for shift in PARITY_SHIFTS:
            ahead_C = (self.warm_CT > (target_C + shift * own_C)[:, None]).sum(axis=1)
            ahead_C += (best_CT > (target_C - shift * (1 - own_C))[:, None]).sum(axis=1)
            found.append(ahead_C < TOP)
        return np.stack(found), (best_CT > target_C[:, None]).sum(axis=1) < TOP

    def of_target(self, count_CM: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the number of each case that belongs to its target [C]; 0 for a warm one."""
        found = np.zeros(len(self.cold_C), np.int64)
        cold = np.flatnonzero(self.cold_C)
        found[cold] = count_CM[cold, self.place_C[cold]]
        return found


def _best(scores: Floats) -> Floats:
    found: Floats = torch.from_numpy(scores).topk(min(TOP, scores.shape[1]), dim=1).values.numpy()
    return found


def _row(
    events: int,
    cold_C: npt.NDArray[np.bool_],
    known_C: npt.NDArray[np.int64],
    hits_SC: npt.NDArray[np.bool_],
    among_C: npt.NDArray[np.bool_],
    resamples: int,
    seed: int,
) -> ArrivalRow:
    served_C = hits_SC[int(np.argmin(np.abs(PARITY_SHIFTS)))]
    cold, among = _estimates([served_C[cold_C], among_C[cold_C]], resamples, seed)
    warm, shift, parity = None, None, None
    if not cold_C.all():
        (warm,) = _estimates([served_C[~cold_C]], resamples, seed)
        shift, parity = _parity(hits_SC[:, ~cold_C].mean(axis=1), hits_SC[:, cold_C].mean(axis=1))
    return ArrivalRow(
        events=events,
        known=float(known_C[cold_C].mean()),
        warm=warm,
        cold=cold,
        among_cold=among,
        parity=parity,
        parity_shift=shift,
    )


def _estimates(columns: Sequence[npt.NDArray[np.bool_]], resamples: int, seed: int) -> list[Estimate]:
    values = np.stack(columns, axis=1).astype(np.float64)
    return estimates(values, bootstrap_means(values, resamples=resamples, seed=seed))


def _parity(warm_S: npt.NDArray[np.float64], cold_S: npt.NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Return shift and Recall where the curve of the cold targets crosses that of the warm ones, between two shifts tried."""
    ahead_S = cold_S - warm_S
    after = int(np.argmax(ahead_S >= 0))
    if ahead_S[after] < 0 or ahead_S[0] > 0:
        return None, None
    before = max(after - 1, 0)
    rise = ahead_S[after] - ahead_S[before]
    share = -ahead_S[before] / rise if rise else 0.0
    shift = PARITY_SHIFTS[before] + share * (PARITY_SHIFTS[after] - PARITY_SHIFTS[before])
    return float(shift), float(cold_S[before] + share * (cold_S[after] - cold_S[before]))
