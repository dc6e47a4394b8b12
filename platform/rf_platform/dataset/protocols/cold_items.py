"""A random share of all items is cold."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from rf_platform.dataset.protocols.cold_targets import hold_out_cold_items
from rf_platform.dataset.protocols.event_log import Assignment, EventLog, log_parts
from rf_platform.errors import UsageError
from rf_platform.ranges import Whole, check_fields

ItemShare = Annotated[float, Field(ge=0, lt=1, description="be at least 0 and below 1: a share of the items")]


@dataclass(frozen=True, kw_only=True)
class ColdItems:
    """Leave-one-out in which a random share of the items never occurs in training, popular ones included.

    The share is that of the items with events. See
    :func:`~rf_platform.dataset.protocols.cold_targets.hold_out_cold_items` for what is removed.
    """

    name: ClassVar[str] = "cold-items"

    cold_share: ItemShare = 0.2
    """Share of the items that are cold for the test part."""
    validation_cold_share: ItemShare = 0.05
    """Share of the items, other ones, that are cold for the validation part."""
    seed: Whole = 0
    """Chooses the items."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_fields(self, "--")
        if self.cold_share + self.validation_cold_share >= 1:
            raise UsageError(
                f"--cold-share={self.cold_share} and --validation-cold-share={self.validation_cold_share} leave no item to "
                f"train on; their sum must be below 1"
            )

    def assign(self, log: EventLog) -> Assignment:
        """Draw the items, then hold out."""
        occurring = np.zeros(0, np.int32)
        for part in log_parts(log):
            occurring = np.union1d(occurring, part.item)
        items = np.random.default_rng(self.seed).permutation(occurring)
        test = round(self.cold_share * len(items))
        validation = round(self.validation_cold_share * len(items))
        return hold_out_cold_items(log, lambda *_: items[:test], lambda *_: items[test : test + validation])

    def to_dict(self) -> dict[str, Any]:
        """Name and parameters, as plain values for JSON."""
        return {"name": self.name, **asdict(self)}
