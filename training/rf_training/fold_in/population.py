"""Users that stand for a model's population: query vectors of validation histories."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from rf_platform.cli.console import track
from rf_platform.dataset import Dataset
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.sequences import Split
from rf_training.model_scorer import ModelScorer

HELD_OUT_QUERIES = 1000
_QUERIES_AT_ONCE = 250


def held_out_queries(scorer: ModelScorer, dataset: Dataset, limit: int = HELD_OUT_QUERIES) -> npt.NDArray[np.float32]:
    """Return the query vectors [B, D] of validation histories, at most ``limit``, spread evenly over the users."""
    sequences = dataset.sequences
    cases = EvaluationCases.from_sequences(sequences, n_items=len(dataset.item_ids), split=Split.VALIDATION)
    chosen = np.unique(np.linspace(0, len(cases) - 1, min(limit, len(cases))).astype(np.int64))
    return queries_of(scorer, cases.users[chosen], (cases.stops - cases.starts)[chosen])


def queries_of(
    scorer: ModelScorer, users: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Return the query vectors [B, D] of users after their first ``lengths`` events, some at a time."""
    return np.concatenate(list(_parts(scorer, users, lengths)))


def tracked_queries_of(
    scorer: ModelScorer, users: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], what: str
) -> npt.NDArray[np.float32]:
    """Return the same of very many, with their progress."""
    with track(what, len(users)) as progress:
        parts = []
        for part in _parts(scorer, users, lengths):
            parts.append(part)
            progress.advance(len(part))
    return np.concatenate(parts)


def _parts(
    scorer: ModelScorer, users: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> Iterator[npt.NDArray[np.float32]]:
    for i in range(0, len(users), _QUERIES_AT_ONCE):
        yield scorer.queries(users[i : i + _QUERIES_AT_ONCE], lengths[i : i + _QUERIES_AT_ONCE]).cpu().numpy()
