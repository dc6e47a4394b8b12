"""Definitions of lists that need no user."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from rf_platform.policies.conditions import Condition, Part

MOST_WEIGHT = 1000.0
"""Largest weight of an event in a list."""


class ListDefinition(Part):
    """A list counted from the event log, or ordered by a time of its items."""

    kind: Literal["popular", "trending", "new"]
    """``popular``: most events; ``trending``: rise against the item's own past; ``new``: latest by ``feature``, or by
    the first event of each item."""
    event_types: tuple[str, ...] = ()
    """Events that count; empty: all that mean that an item was wanted."""
    weights: Mapping[str, Annotated[float, Field(ge=0, le=MOST_WEIGHT, allow_inf_nan=False)]] | None = None
    """Events that one of a type counts as, such as ``{purchase: 5, view: 1}``, to a hundredth; one of a type that is not named
    counts as 1. None: as the feature repository weighs events; ``{}``: all alike."""
    half_life_days: float = Field(default=7.0, ge=1 / 1440, le=36_500, allow_inf_nan=False)
    """Time after which an event counts half; of a trending list, of its recent side; a minute to a hundred years."""
    smoothing: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """Events that a trending list adds to both sides of the comparison, so that one event is no trend."""
    feature: str | None = None
    """Of a new list: the item feature with the time, ``view__field``; None: the time of the item's first event counts."""
    by: str | None = None
    """Item feature: a list for each of its values, beside the one of all items."""
    where: tuple[Condition, ...] = ()
    """Items that may be listed: all of these hold."""
    length: int = Field(default=200, ge=1, le=10_000)
    """Most items kept."""

    def __hash__(self) -> int:
        """Return the hash of what most lists differ by: weights are a dictionary, which has none."""
        return hash((self.kind, self.event_types, self.half_life_days, self.feature, self.by, self.length))

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "ListDefinition":
        if self.feature is not None and self.kind != "new":
            raise ValueError("'feature' names the time of items in a list of kind 'new', and belongs to no other")
        if self.feature is not None and self.event_types:
            raise ValueError(
                "'event_types' are those of first events, and 'feature' takes their place; give one of them"
            )
        if self.weights is not None and self.kind == "new":
            raise ValueError("'weights' are of events that are counted, and a list of kind 'new' counts none")
        if self.weights and not any(self.weights.get(name, 1.0) for name in self.event_types or ("",)):
            raise ValueError("weights: no event type that counts has a weight above 0")
        return self
