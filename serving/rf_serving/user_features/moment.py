"""Features of a user at an earlier moment: cut off just before an event, and kept as text."""

import json
from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np

from rf_serving.user_features.features import UserFeatures

_SECOND = 1_000_000


def before(features: UserFeatures, item: int | str, timestamp_us: int) -> UserFeatures:
    """Return the features of a user just before an event: by now the history has it, and perhaps later ones.

    Args:
        features: as the online store has them.
        item: of the event, in the catalog's type.
        timestamp_us: time of the event.
    """
    second = timestamp_us // _SECOND * _SECOND  # the online store keeps whole seconds
    times = features.timestamps
    cut = next(
        (
            place
            for place, each in enumerate(features.items)
            if (each == item and (times is None or times[place] >= second))
            or (times is not None and times[place] > second)
        ),
        len(features.items),
    )
    return UserFeatures(
        profile=features.profile,
        items=list(islice(features.items, cut)),
        timestamps=None if times is None else times[:cut],
        context={name: list(islice(column, cut)) for name, column in features.context.items()},
    )


def written(features: UserFeatures, most: int) -> str:
    """Return features as JSON, with the last ``most`` interactions."""
    start = max(0, len(features.items) - most)
    return json.dumps(
        {
            "profile": dict(features.profile),
            "items": list(features.items[start:]),
            "timestamps": None if features.timestamps is None else features.timestamps[start:].tolist(),
            "context": {name: list(column[start:]) for name, column in features.context.items()},
        }
    )


def read(text: str) -> UserFeatures:
    """Read what :func:`written` wrote."""
    said: Mapping[str, Any] = json.loads(text)
    times = said["timestamps"]
    return UserFeatures(
        profile=said["profile"],
        items=said["items"],
        timestamps=None if times is None else np.array(times, np.int64),
        context=said["context"],
    )
