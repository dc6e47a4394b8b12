"""The policy of a deployment: placements with their rules, and the lists that they use."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from rf_platform.policies.conditions import Condition, Part
from rf_platform.policies.lists import ListDefinition
from rf_platform.policies.rules import Boost, Cap, Diversity, Exploration, Pin, SeenRule
from rf_platform.policies.sources import BUILT_IN, Sources

MOST_BOOSTS, MOST_CAPS, MOST_PINS, MOST_SEEN = 100, 20, 1000, 100
"""Most rules of a placement: each boost and cap costs every answer some microseconds."""
MOST_LISTS, MOST_PLACEMENTS = 100, 1000
MOST_REACH = 1e30
"""Most that the factors of a placement may multiply a score by, together: scores stay numbers that a reply can carry."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""Name of a placement or a list: letters, digits, dot, dash and underscore."""


class Placement(Part):
    """A place where recommendations are shown, and what is shown there; the parts apply in the order of the fields."""

    sources: Sources = Sources()
    without_user: str | None = None
    """List that answers a session without history and profile."""
    seen: Annotated[tuple[SeenRule, ...], Field(max_length=MOST_SEEN)] | None = None
    """Hides what any of these rules names; None: the request's ``exclude_seen`` decides."""
    eligibility: tuple[Condition, ...] = ()
    """All of these hold for every item, whatever a request asks for."""
    boosts: tuple[Boost, ...] = Field(default=(), max_length=MOST_BOOSTS)
    caps: tuple[Cap, ...] = Field(default=(), max_length=MOST_CAPS)
    """The first one is kept longest where not all can be."""
    diversity: Diversity | None = None
    pins: tuple[Pin, ...] = Field(default=(), max_length=MOST_PINS)
    exploration: Exploration | None = None
    goals: Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """Weight of each event type that is wanted, such as ``{purchase: 1, view: 0.2}``; empty: as the model was trained."""
    candidates: int = Field(default=200, ge=1, le=10_000, strict=True)
    """Items that boosts, caps and diversity choose from."""

    @model_validator(mode="after")
    def _distinct(self) -> "Placement":
        for what, values in (
            ("boosts: the name", [each.name for each in self.boosts]),
            ("caps: the cap", [each.name for each in self.caps]),
            ("pins: the item", [each.item for each in self.pins]),
            ("pins: the place", [str(each.place) for each in self.pins]),
        ):
            if twice := next((value for value, count in Counter(values).items() if count > 1), None):
                raise ValueError(f"{what} '{twice}' is given twice")
        if (reach := math.prod(max(each.factor, 1 / each.factor) for each in self.boosts if each.factor)) > MOST_REACH:
            raise ValueError(
                f"boosts: the factors together change a score by up to {reach:.1e}, and {MOST_REACH:.0e} is the most; use "
                f"smaller ones"
            )
        if self.goals and not any(self.goals.values()):
            raise ValueError("goals: no goal has a weight above 0")
        return self


class Policy(Part):
    """Versioned document of a deployment: the content of each placement of a shop."""

    lists: Mapping[Name, ListDefinition] = Field(default={}, max_length=MOST_LISTS)
    placements: Mapping[Name, Placement] = Field(default={}, max_length=MOST_PLACEMENTS)
    default: str | None = None
    """Placement of requests that name none; None: those are answered without rules."""

    @model_validator(mode="after")
    def _known_names(self) -> "Policy":
        if taken := [name for name in self.lists if name in BUILT_IN]:
            raise ValueError(f"lists: '{taken[0]}' is the name of a source; choose another")
        if self.default is not None and self.default not in self.placements:
            raise ValueError(f"default: there is no placement '{self.default}'; {_known(self.placements)}")
        for name, placement in self.placements.items():
            used = [each.source for each in placement.sources.use if each.source not in BUILT_IN]
            if placement.without_user is not None:
                used.append(placement.without_user)
            if missing := [each for each in used if each not in self.lists]:
                raise ValueError(f"placements.{name}: there is no list '{missing[0]}'; {_known(self.lists)}")
        return self


def policy_schema() -> str:
    """Return the JSON Schema of policies, as it is published."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Policy.model_json_schema(by_alias=True)}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _known(names: Mapping[str, object]) -> str:
    return f"known are {', '.join(names)}" if names else "there are none"
