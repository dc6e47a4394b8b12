"""Guard rails: what a challenger must not make worse, whatever else it gains."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from rf_platform.effects.arms import Arm, Effect
from rf_platform.effects.confidence_sequence import ConfidenceSequence, Interval

ALPHA = 0.05
"""Probability that any rail of an experiment is ever called broken wrongly; each has its part of it."""


@dataclass(frozen=True, kw_only=True)
class Rail:
    """A figure of every user that may be worse by so much and no more. Larger is worse."""

    name: str
    unit: str = ""
    relative: float = 0.0
    """Share of the served bundle's mean that the challenger's may be above it."""
    absolute: float = 0.0
    """Is added to that."""


LATENCY = Rail(name="latency", unit="ms", relative=0.2, absolute=1.0)
DEGRADED = Rail(name="degraded share", absolute=0.01)


@dataclass(frozen=True, kw_only=True)
class RailCheck:
    """State of one rail."""

    name: str
    control: float
    challenger: float
    allowed: float
    """Largest difference that is no breach."""
    difference: Interval
    broken: bool
    unit: str = ""

    @property
    def said(self) -> str:
        """The state in words."""
        change = self.difference
        state = "broken" if self.broken else "kept"
        return (
            f"{self.name} {state}: {self.challenger:.4g} {self.unit}".rstrip()
            + f" after {self.control:.4g}, {change.value:+.3g} [{change.low:+.3g}, {change.high:+.3g}], "
            f"{self.allowed:+.3g} allowed"
        )


def check_rail(rail: Rail, control: Arm, challenger: Arm, rails: int, tightest_at: float) -> RailCheck:
    """Hold a rail against what was measured.

    It is broken if the whole always-valid interval of the difference lies above what is allowed.

    Args:
        rail: the rule.
        control: its figure over the users of the served bundle.
        challenger: over those of the challenger.
        rails: how many are checked in all.
        tightest_at: see :class:`ConfidenceSequence`.
    """
    sequence = ConfidenceSequence(alpha=ALPHA / rails, tightest_at=tightest_at)
    difference = Effect.of(control, challenger).interval(sequence)
    allowed = rail.relative * abs(float(control.mean)) + rail.absolute
    return RailCheck(
        name=rail.name,
        unit=rail.unit,
        control=float(control.mean),
        challenger=float(challenger.mean),
        allowed=allowed,
        difference=difference,
        broken=difference.low > allowed,
    )


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Distinct items that each bundle shows in equally many places."""

    places: int
    control: float
    challenger: float

    least: float = 0.8
    """Share of the served bundle's items that the challenger has to show."""

    @property
    def broken(self) -> bool:
        """Whether the challenger shows too few."""
        return self.challenger < self.least * self.control

    @property
    def said(self) -> str:
        """The state in words."""
        state = "broken" if self.broken else "kept"
        return (
            f"coverage {state}: {self.challenger:,.0f} items in {self.places:,} places after {self.control:,.0f}, "
            f"{self.least:.0%} needed"
        )


def coverage(control: Sequence[int], challenger: Sequence[int]) -> Coverage:
    """Compare the items shown by two bundles.

    The bundle that showed more is thinned to the places of the other one: the expected number of distinct items in a random part
    of its places (rarefaction; Hurlbert, 1971), since more users see more items under any bundle.

    Args:
        control: how often each item was shown by the served bundle.
        challenger: by the challenger.
    """
    counts = [np.asarray(each, np.float64) for each in (control, challenger)]
    places = int(min(each.sum() for each in counts))
    return Coverage(
        places=places, control=distinct_items(counts[0], places), challenger=distinct_items(counts[1], places)
    )


def distinct_items(counts: npt.NDArray[np.float64], places: int) -> float:
    """Return the expected number of distinct items in so many places, drawn from all without replacement."""
    total = counts.sum()
    left = total - counts
    absent = np.zeros_like(counts)
    may = left >= places
    absent[may] = np.exp(
        gammaln(left[may] + 1) - gammaln(left[may] - places + 1) - gammaln(total + 1) + gammaln(total - places + 1)
    )
    return float((1 - absent).sum())
