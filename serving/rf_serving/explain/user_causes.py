"""Features of a user without one event of the history, or without one feature of the profile.

Shapes: T interactions.
"""

from itertools import compress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rf_platform.features.spec import FeatureSpec
from rf_protos.v1.explanation_pb2 import FeatureCause, HistoryEvent
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.user_features.features import KnownFeatures


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
            causes.append(UserCause(cause, KnownFeatures(others, known.rows, known.timestamps, known.context)))
    return causes


def without_history(known: KnownFeatures) -> KnownFeatures:
    """Return the profile alone."""
    return _only(known, np.zeros(len(known.rows), np.bool_))


def _only(known: KnownFeatures, kept_T: npt.NDArray[np.bool_]) -> KnownFeatures:
    kept = kept_T.tolist()
    return KnownFeatures(
        known.profile,
        known.rows[kept_T],
        None if known.timestamps is None else known.timestamps[kept_T],
        {name: list(compress(column, kept)) for name, column in known.context.items()},
    )
