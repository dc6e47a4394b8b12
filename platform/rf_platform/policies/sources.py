"""Sources of an answer's candidates, and how they are merged."""

from typing import Literal

from pydantic import Field, model_validator

from rf_platform.policies.conditions import Part

MODEL, SIMILAR, CALLER = "model", "similar", "caller"
"""Sources that need no definition: the model's search, items similar to the last one of the history, the request's own list."""
BUILT_IN = (MODEL, SIMILAR, CALLER)


MOST_QUOTA = 1e6
"""Largest quota of a source."""


class Source(Part):
    """One source."""

    source: str = Field(min_length=1)
    """``model``, ``similar``, ``caller``, or the name of a list of the policy."""
    quota: float = Field(default=1.0, ge=0, le=MOST_QUOTA, allow_inf_nan=False)
    """Share of the places relative to the other sources' quotas; in a merge by rank, the weight of the source's ranks."""
    co_occurrence: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """Of ``similar``: share of co-occurrence in the likeness; None: as the deployment says (``RF_CO_OCCURRENCE``)."""

    @model_validator(mode="after")
    def _fits_its_source(self) -> "Source":
        if self.co_occurrence is not None and self.source != SIMILAR:
            raise ValueError(f"'co_occurrence' belongs to the source '{SIMILAR}' alone")
        return self


class Sources(Part):
    """Sources in the order in which they fill places."""

    merge: Literal["quotas", "rank"] = "quotas"
    """``quotas``: each fills its share of the places, what one cannot fill goes to the next; ``rank``: reciprocal rank."""
    use: tuple[Source, ...] = (Source(source=MODEL),)

    @model_validator(mode="after")
    def _usable(self) -> "Sources":
        names = [each.source for each in self.use]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"source '{twice}' is given twice; add up its quotas")
        if not any(each.quota > 0 for each in self.use):
            raise ValueError("no source has a quota above 0")
        return self
