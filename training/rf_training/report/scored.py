"""What a report computes on the spot from the model and the dataset."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rf_platform.cli.console import track
from rf_platform.dataset import Dataset
from rf_platform.errors import NotFoundError
from rf_training.baselines import ItemKNN, Popularity
from rf_training.evaluation import LeaveOneOutCases, Scorer, Split, rank_targets
from rf_training.model.retrievalformer import candidate_vectors
from rf_training.model.storage import load_model
from rf_training.model_scorer import ModelScorer
from rf_training.report.item_map import ItemMap, item_map
from rf_training.report.reach import Reach, RecordedTop, reach
from rf_training.report.segments import (
    BANDS,
    Segment,
    history_groups,
    history_names,
    popularity_bands,
    segment_metrics,
)

TOP = 20
"""Length of the lists of recommendations that coverage and popularity are measured on."""


@dataclass(frozen=True, kw_only=True)
class BandSize:
    """One popularity band of the catalog."""

    name: str
    items: int
    events: int
    """Training events of its items."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Segments of the test split and what is recommended to its users."""

    bands: tuple[BandSize, ...]
    by_popularity: tuple[Segment, ...]
    by_history: tuple[Segment, ...]
    model: str
    """Name of the model among the scorers."""
    reach: tuple[Reach, ...]
    """The baselines, the model, and last what the users did choose: the test targets."""


def load_scorer(directory: Path, dataset: Dataset) -> ModelScorer:
    """Load the chosen weights of a run.

    Raises:
        NotFoundError: the run has none.
        CorruptError: they do not fit the dataset.
    """
    if not (directory / "best" / "weights.pt").exists():
        raise NotFoundError("the run has not finished its first epoch, so no weights were chosen")
    return ModelScorer(load_model(directory / "best", dataset.encoder), dataset)


def score(model: ModelScorer, dataset: Dataset, *, seed: int) -> Scored:
    """Rank the catalog for every test user with the model, popularity and item-KNN.

    Args:
        model: the model.
        dataset: what it was trained on.
        seed: seed of ties and intervals.

    Raises:
        RunError: no user has a test event.
    """
    n_items, sequences = len(dataset.item_ids), dataset.sequences
    cases = LeaveOneOutCases.from_sequences(sequences, n_items=n_items, split=Split.TEST)
    popularity = Popularity.fit(sequences, n_items=n_items)
    scorers: list[Scorer] = [popularity, ItemKNN.fit(sequences, n_items=n_items), model]
    ranks, tops = {}, {}
    with track("report: ranking for segments", len(scorers) * len(cases)) as progress:
        for scorer in scorers:
            recorded = RecordedTop(scorer, TOP)
            ranks[scorer.name] = rank_targets(recorded, cases, seed=seed, progress=progress).excluded
            tops[scorer.name] = recorded.items
    counts = popularity.counts
    bands = popularity_bands(counts)
    return Scored(
        bands=tuple(
            BandSize(name=name, items=int((bands == code).sum()), events=int(counts[bands == code].sum()))
            for code, name in enumerate(BANDS)
        ),
        by_popularity=tuple(segment_metrics(bands[cases.targets], BANDS, ranks, seed=seed)),
        by_history=tuple(
            segment_metrics(history_groups(cases.stops - cases.starts), history_names(), ranks, seed=seed)
        ),
        model=model.name,
        reach=(
            *(reach(name, items, counts, bands) for name, items in tops.items()),
            reach("test targets", cases.targets, counts, bands),
        ),
    )


def map_items(model: ModelScorer, dataset: Dataset, *, seed: int) -> ItemMap:
    """Lay out the catalog by the model's item vectors."""
    counts = Popularity.fit(dataset.sequences, n_items=len(dataset.item_ids)).counts
    items = dataset.items.take(dataset.current_items)
    vectors = candidate_vectors(model.item_h_ND).numpy().astype(np.float32)
    return item_map(vectors, items, dataset.spec, counts, seed=seed)
