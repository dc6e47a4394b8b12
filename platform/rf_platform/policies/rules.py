"""Rules of a placement: what may stand where, and how scores are changed."""

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from rf_platform.policies.conditions import Condition, Part

MOST_FACTOR = 1000.0
"""Largest factor of a boost; the least one is its inverse."""


MOST_PLACES = 100_000
"""Most places that a rule can be about."""


def _text(value: object) -> object:
    """Take a number for the id that it is written as."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


ItemId = Annotated[str, BeforeValidator(_text), Field(min_length=1)]
Count = Annotated[int, Field(ge=1, le=MOST_PLACES, strict=True)]
"""A number of places, from 1 on."""


class SeenRule(Part):
    """Items that are hidden because the user has seen them."""

    event_types: tuple[str, ...] = ()
    """Events that count, such as ``[purchase]``; empty: all that mean that an item was seen."""
    days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """For how long after the last such event; None: for ever."""


class Boost(Part):
    """Change of the scores of items for which conditions hold; exactly one of factor and offset."""

    name: str = Field(min_length=1)
    """Name in explanations."""
    where: tuple[Condition, ...] = Field(min_length=1)
    """All of these hold."""
    factor: float | None = Field(default=None, ge=1 / MOST_FACTOR, le=MOST_FACTOR, allow_inf_nan=False)
    """Above 1 moves items up, below 1 down: a score above 0 is multiplied by it, one below 0 divided."""
    offset: float | None = Field(default=None, ge=-MOST_FACTOR, le=MOST_FACTOR, allow_inf_nan=False)
    """Is added to the score."""

    @model_validator(mode="after")
    def _one(self) -> "Boost":
        if (self.factor is None) == (self.offset is None):
            raise ValueError("give either 'factor' or 'offset'")
        return self


class Cap(Part):
    """Most items with the same value of a feature, in the whole list or in any stretch of so many places."""

    feature: str = Field(min_length=1)
    """Item feature or display field by full name, ``view__field``; of one with several values, each counts."""
    most: Count
    window: Annotated[int, Field(ge=2, le=MOST_PLACES, strict=True)] | None = None
    """Length of a stretch; None: the whole list."""

    @model_validator(mode="after")
    def _bites(self) -> "Cap":
        if self.window is not None and self.most >= self.window:
            raise ValueError(f"most {self.most} of {self.window} places is no limit; give a smaller 'most'")
        return self

    @property
    def name(self) -> str:
        """The cap in words, as replies name it."""
        return f"{self.feature} {self.most}" + (f" in {self.window}" if self.window is not None else "")


class Diversity(Part):
    """Maximal marginal relevance: each place goes to the best item by ``λ·score - (1-λ)·likeness to those before``."""

    trade: float = Field(alias="lambda", ge=0, le=1, allow_inf_nan=False)
    """λ: 1 keeps the order of scores, 0 looks at likeness alone."""


class Pin(Part):
    """An item at a fixed place."""

    item: ItemId
    place: Count
    """1 is the first."""


class Exploration(Part):
    """Share of the places given to items drawn at random, so that new ones are seen at all."""

    share: float = Field(gt=0, le=0.5, allow_inf_nan=False)
    among: tuple[Condition, ...] = ()
    """Conditions of the items that are drawn from; empty: items without an event when the bundle was trained."""
