"""Causes of an answer on the user's side: each event and each feature of the profile, and scores without it.

Contributions are exact for one cause at a time.

Shapes: T interactions, K items, C causes, D width of the vectors that are searched.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from time import perf_counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rf_platform.features.spec import FeatureSpec
from rf_protos.v1.explanation_pb2 import FeatureCause, HistoryEvent
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.explain.scoring import Scoring
from rf_serving.user_features.features import KnownFeatures

INTERACTIONS_AT_ONCE = 4096
"""Interactions encoded together: 80 histories of 50 events, or 20 of 200. Memory is bounded whatever the history's length."""


class UserCause(NamedTuple):
    """One thing that an answer was made from, and everything else."""

    cause: HistoryEvent | FeatureCause
    without: KnownFeatures
    """Features without the cause."""


def latest(known: KnownFeatures, events: int) -> KnownFeatures:
    """Return what the user tower reads: the profile and the latest ``events`` of the history.

    Where an event is left out of a longer history, no older one takes its place: that would be another cause.
    """
    kept_T = np.arange(len(known.rows)) >= len(known.rows) - events
    return known if kept_T.all() else _only(known, kept_T)


def events_left_out(
    known: KnownFeatures, catalog: CatalogSnapshot, limit: int, first_position: int = 0
) -> list[UserCause]:
    """Return the history without each of its latest ``limit`` events, oldest first.

    Args:
        known: profile and history as they are read.
        catalog: names the items.
        limit: most events that are considered.
        first_position: place of the first of these events in the whole history.
    """
    T = len(known.rows)
    causes = []
    for place in range(max(0, T - limit), T):
        (item,) = catalog.texts(known.rows[place : place + 1].tolist())
        event = HistoryEvent(item_id=item, position=first_position + place)
        causes.append(UserCause(event, _only(known, np.arange(T) != place)))
    return causes


def features_left_out(known: KnownFeatures, spec: FeatureSpec) -> list[UserCause]:
    """Return the profile without each feature that it has: missing, as for a user without it."""
    causes = []
    for f in spec.inputs("user"):
        if known.profile.get(f.name) is not None:
            others = {name: value for name, value in known.profile.items() if name != f.name}
            cause = FeatureCause(side=FeatureCause.USER, name=f.name)
            causes.append(UserCause(cause, replace(known, profile=others)))
    return causes


def _only(known: KnownFeatures, kept_T: npt.NDArray[np.bool_]) -> KnownFeatures:
    kept = kept_T.tolist()
    return KnownFeatures(
        known.profile,
        known.rows[kept_T],
        None if known.timestamps is None else known.timestamps[kept_T],
        {name: list(compress(column, kept)) for name, column in known.context.items()},
        known.goals,
    )


class LeftOut:
    """Scores the items again without each cause."""

    def __init__(
        self, scoring: Scoring, read: KnownFeatures, vectors_KD: npt.NDArray[np.float32], catalog: CatalogSnapshot
    ) -> None:
        """Score the items with everything.

        Args:
            scoring: computes scores as for the answer.
            read: features of the user that were read.
            vectors_KD: the items.
            catalog: the snapshot that answered.
        """
        self._scoring, self._vectors_KD, self._catalog = scoring, vectors_KD, catalog
        self._whole_1K = scoring([read], vectors_KD, catalog)

    def __call__(self, causes: Sequence[UserCause]) -> npt.NDArray[np.float32]:
        """Return by how much each cause moved the score of each item [C, K]; NaN where that cannot be told."""
        return self._whole_1K - self._scoring([each.without for each in causes], self._vectors_KD, self._catalog)


def in_time(
    left_out: LeftOut, causes: Sequence[UserCause], length: int, until: float
) -> npt.NDArray[np.float32] | None:
    """Return the contributions of at least one cause [C, K], computed some at a time; None if there is no time for all.

    Args:
        left_out: computes them.
        causes: for which.
        length: interactions of a history, which decides how many fit in memory.
        until: when to stop, by :func:`time.perf_counter`.
    """
    at_once = max(1, INTERACTIONS_AT_ONCE // max(1, length))
    parts = []
    for start in range(0, len(causes), at_once):
        if perf_counter() >= until:
            return None
        parts.append(left_out(causes[start : start + at_once]))
    return np.concatenate(parts)
