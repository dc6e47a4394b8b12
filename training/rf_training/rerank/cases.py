"""Evaluation cases of re-rankers: held-out targets, the retriever's candidates for them, and uniform items beside them.

Candidates are the best items of the whole catalog, without those the user has had.

Shapes: P cases or positions in histories, K candidates, U uniform items, N items, S seen items of all places, Q width of searched
vectors.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rf_platform.cli.console import Tracker, track
from rf_training.device import numbers_at_once
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.ranking import rank_targets
from rf_training.evaluation.sequences import Jagged, Split
from rf_training.rerank.towers import EncodedPositions, Positions, Towers

CANDIDATES = 1000
"""Number of candidates for every place."""
MAX_SCORES = 1 << 23
"""Most scores held at once on a CPU: 32 MiB."""


@dataclass(frozen=True)
class Candidates:
    """The retriever's best items at every place, the best first."""

    item_PK: Tensor
    """int32 rows of the catalog; where a catalog has fewer unseen items than K, the last ones are repeats with the score -inf."""
    dot_PK: Tensor
    """The retriever's scores."""

    def __len__(self) -> int:
        return len(self.item_PK)


@torch.inference_mode()
def find_candidates(
    query_PQ: Tensor, vectors_NQ: Tensor, seen: Jagged, k: int = CANDIDATES, progress: Tracker | None = None
) -> Candidates:
    """Scan the catalog exactly for every place, some places at a time.

    Args:
        query_PQ: what to search with.
        vectors_NQ: of the catalog.
        seen: rows of the items that must not be found, for every place.
        k: how many to find.
        progress: told the number of places done.
    """
    n_items = len(vectors_NQ)
    k = min(k, n_items)
    device = query_PQ.device
    items, dots = (torch.empty(len(query_PQ), k, dtype=kind, device=device) for kind in (torch.int32, torch.float32))
    step = max(1, numbers_at_once(device, MAX_SCORES) // n_items)
    for start in range(0, len(query_PQ), step):
        rows = slice(start, min(start + step, len(query_PQ)))
        score_PN = query_PQ[rows] @ vectors_NQ.T
        offsets = seen.offsets[rows.start : rows.stop + 1]
        row_S = np.repeat(np.arange(rows.stop - rows.start), np.diff(offsets))
        item_S: npt.NDArray[np.int64] = seen.values[offsets[0] : offsets[-1]].astype(np.int64)
        score_PN[torch.from_numpy(row_S).to(device), torch.from_numpy(item_S).to(device)] = -torch.inf
        found = score_PN.topk(k, dim=1)
        items[rows], dots[rows] = found.indices.int(), found.values
        if progress is not None:
            progress.advance(rows.stop - rows.start)
    return Candidates(items, dots)


UNIFORM = 200
"""Items drawn uniformly for every case, for the AUC against them."""
_CASES_AT_ONCE = 4096


@dataclass(frozen=True)
class RerankCases:
    """The targets of a split, encoded and searched once for all re-rankers."""

    cases: EvaluationCases
    encoded: EncodedPositions
    """Histories before the targets, as they are served."""
    candidates: Candidates
    """The best of the catalog without the history; a target that the user has had before may be found again."""
    rank_P: npt.NDArray[np.int64]
    """Rank of the target in the retriever's own order, as `rf evaluate` has it with seen items excluded."""
    tie_P: npt.NDArray[np.float64]
    """Uniform draws that decide between equal scores."""
    target_P: Tensor
    """int64, the targets."""
    target_dot_P: Tensor
    """The retriever's scores of them, whether it found them or not."""
    uniform_PU: Tensor
    """int64, items drawn uniformly."""
    uniform_dot_PU: Tensor
    """The retriever's scores of them."""
    uniform_real_PU: Tensor
    """bool, False for a drawn item that the user has had or that is the target."""

    def __len__(self) -> int:
        return len(self.cases)

    def found(self, places: int) -> float:
        """Return the share of the targets among the retriever's first places."""
        return float((self.rank_P <= places).mean())

    def sampled(self, most: int) -> "RerankCases":
        """Return as many of the cases at most, evenly spread over the users."""
        if len(self) <= most:
            return self
        rows = np.linspace(0, len(self) - 1, most).astype(np.int64)
        row_P = torch.from_numpy(rows).to(self.target_P.device)
        drawn = {name: getattr(self.cases, name)[rows] for name in ("users", "targets", "cold", "starts", "stops")}
        return RerankCases(
            cases=replace(self.cases, **drawn),
            encoded=self.encoded.take(row_P),
            candidates=Candidates(self.candidates.item_PK[row_P], self.candidates.dot_PK[row_P]),
            rank_P=self.rank_P[rows],
            tie_P=self.tie_P[rows],
            target_P=self.target_P[row_P],
            target_dot_P=self.target_dot_P[row_P],
            uniform_PU=self.uniform_PU[row_P],
            uniform_dot_PU=self.uniform_dot_PU[row_P],
            uniform_real_PU=self.uniform_real_PU[row_P],
        )


def make_cases(towers: Towers, split: Split, *, seed: int, most: int | None = None) -> RerankCases:
    """Encode and search the targets of a split.

    Args:
        towers: the frozen towers.
        split: validation, to choose; test, once, to report.
        seed: of ties, of the uniform items, and of which cases are taken.
        most: cases to take; None for all.

    Raises:
        RunError: the split is empty.
    """
    cases = EvaluationCases.from_sequences(towers.dataset.sequences, n_items=towers.n_items, split=split)
    cases = cases if most is None else cases.sampled(most, seed)
    encoded = towers.encode(Positions(cases.users, cases.stops - cases.starts))
    target_P = torch.from_numpy(cases.targets).to(towers.device)
    rng = np.random.default_rng([seed, int(split)])
    uniform = rng.integers(0, towers.n_items, (len(cases), UNIFORM))
    real = np.empty(uniform.shape, bool)
    uniform_PU = torch.from_numpy(uniform).to(towers.device)
    parts, dots = [], torch.empty(uniform.shape, device=towers.device)
    with track(f"{split.label} candidates", len(cases)) as progress:
        for start in range(0, len(cases), _CASES_AT_ONCE):
            rows = slice(start, min(start + _CASES_AT_ONCE, len(cases)))
            seen = _seen(cases, rows)
            parts.append(find_candidates(encoded.query_PQ[rows], towers.vectors_NQ, seen, CANDIDATES, progress))
            had = seen.row_of_value * towers.n_items + seen.values
            drawn = np.arange(len(seen))[:, None] * towers.n_items + uniform[rows]
            real[rows] = ~np.isin(drawn, had) & (uniform[rows] != cases.targets[rows][:, None])
            dots[rows] = _dots(towers, encoded.query_PQ[rows], uniform_PU[rows])
    return RerankCases(
        cases=cases,
        encoded=encoded,
        candidates=Candidates(torch.cat([p.item_PK for p in parts]), torch.cat([p.dot_PK for p in parts])),
        rank_P=rank_targets(_Searched(towers, encoded, cases), cases, seed=seed).excluded,
        tie_P=np.random.default_rng(seed).random(len(cases)),
        target_P=target_P,
        target_dot_P=_dots(towers, encoded.query_PQ, target_P[:, None])[:, 0],
        uniform_PU=uniform_PU,
        uniform_dot_PU=dots,
        uniform_real_PU=torch.from_numpy(real).to(towers.device),
    )


def _seen(cases: EvaluationCases, rows: slice) -> Jagged:
    """Return the seen sets of some cases without the target, should it be among them."""
    row, item = cases.seen(rows.start, rows.stop)
    others = item != cases.targets[rows][row]
    counts = np.bincount(row[others], minlength=rows.stop - rows.start)
    return Jagged(item[others].astype(np.int32), np.concatenate([[0], np.cumsum(counts)]))


def _dots(towers: Towers, query_PQ: Tensor, item_PU: Tensor) -> Tensor:
    parts = zip(torch.split(query_PQ, 512), torch.split(item_PU, 512), strict=True)
    return torch.cat([torch.einsum("pq,puq->pu", query, towers.vectors_NQ[item]) for query, item in parts])


class _Searched:
    """The retriever as a scorer of the evaluation, with queries that are there already."""

    name = "dot"

    def __init__(self, towers: Towers, encoded: EncodedPositions, cases: EvaluationCases) -> None:
        self._vectors_NQ, self._query_PQ, self._users = towers.vectors_NQ, encoded.query_PQ, cases.users

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        """Return the retriever's scores of the catalog; a split has one case of a user."""
        rows = torch.from_numpy(np.searchsorted(self._users, users)).to(self._query_PQ.device)
        scores: npt.NDArray[np.float32] = (self._query_PQ[rows] @ self._vectors_NQ.T).cpu().numpy()
        return scores
