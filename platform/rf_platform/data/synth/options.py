"""Sizes and seed of a synthetic catalog."""

from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from rf_platform.errors import UsageError
from rf_platform.ranges import Count, Whole, check_fields

BLOCK_EVENTS = 1 << 17
"""Events of a block of users, on average: what is held in memory at once, whatever the number of events."""
LARGEST_BLOCK = 4096
"""Most users of a block."""
MOST_ITEMS = 1 << 31
"""Datasets number items with 32 bits."""


@dataclass(frozen=True, kw_only=True)
class SynthOptions:
    """Sizes and seed; equal options give equal tables, byte for byte."""

    users: Count = 1_000
    items: Annotated[
        int,
        Field(
            ge=10,
            lt=MOST_ITEMS,
            description=f"be at least 10, and below {MOST_ITEMS:,}: items are numbered with 32 bits",
        ),
    ] = 500
    events: Count = 20_000
    seed: Whole = 0
    browsing: bool = False
    """Whether there is a fourth table: the category that a user opened just before each choice."""
    behaviours: bool = False
    """Whether users buy other things than they view: the cheapest style of a category they like."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UsageError: a value is out of range.
        """
        check_fields(self, "--")
        if self.events < self.users:
            raise UsageError(
                f"--events={self.events} for --users={self.users}: every user has an event, so ask for more events or fewer users"
            )

    @property
    def users_per_block(self) -> int:
        """Users that are made together; each block has random numbers of its own."""
        return max(1, min(LARGEST_BLOCK, BLOCK_EVENTS * self.users // self.events))

    @property
    def blocks(self) -> int:
        """Number of blocks of users."""
        return -(-self.users // self.users_per_block)

    def random(self, what: int, block: int = 0) -> np.random.Generator:
        """Return the random numbers of one part of the catalog and one block of users."""
        return np.random.default_rng([self.seed, what, block])

    def describe(self) -> str:
        """Return the command line that makes the same tables."""
        sizes = asdict(self)
        flags = [f" --{name}" for name in ("browsing", "behaviours") if sizes.pop(name)]
        return "rf data synth " + " ".join(f"--{name} {value}" for name, value in sizes.items()) + "".join(flags)
