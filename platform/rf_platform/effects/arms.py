"""Sums of the users of each bundle, and the effect of the challenger that follows from them.

Everything is a function of sums, so the same code serves one experiment and thousands of simulated ones, a look at a time or all
looks at once: each array has an axis for looks and simulations, or none.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from rf_platform.effects.confidence_sequence import ConfidenceSequence, Floats, Interval


@dataclass(frozen=True, eq=False, kw_only=True)
class Arm:
    """Sums over the users of one bundle: of the outcome y, of the same user's past x, and of their squares and products."""

    users: Floats
    y: Floats
    yy: Floats
    x: Floats
    xx: Floats
    xy: Floats
    some: Floats
    """Users with an outcome that is not zero."""

    @classmethod
    def of(cls, outcome: npt.ArrayLike, past: npt.ArrayLike | None = None) -> Self:
        """Sum up the users of a bundle.

        Args:
            outcome: of each user.
            past: of each user, known before the first answer; None: nothing is.
        """
        y = np.asarray(outcome, np.float64)
        x = np.zeros_like(y) if past is None else np.asarray(past, np.float64)
        sums = (np.ones_like(y), y, y * y, x, x * x, x * y, (y != 0).astype(np.float64))
        return cls(**dict(zip(_FIELDS, (np.asarray(each.sum()) for each in sums), strict=True)))

    @classmethod
    def running(cls, outcome: Floats, past: Floats, here: npt.NDArray[np.bool_]) -> Self:
        """Sum up after every user, along the last axis.

        Args:
            outcome: of all users in the order of their first answer.
            past: likewise.
            here: whether each is a user of this bundle.
        """
        y, x = np.where(here, outcome, 0.0), np.where(here, past, 0.0)
        sums = (here.astype(np.float64), y, y * y, x, x * x, x * y, (y != 0).astype(np.float64))
        return cls(**dict(zip(_FIELDS, (each.cumsum(axis=-1) for each in sums), strict=True)))

    def __add__(self, other: "Arm") -> "Arm":
        """Return the sums over the users of both."""
        return Arm(**{name: getattr(self, name) + getattr(other, name) for name in _FIELDS})

    @property
    def mean(self) -> Floats:
        """Mean outcome of a user."""
        return self.y / self.users

    @property
    def within(self) -> tuple[Floats, Floats, Floats]:
        """Sums of squares and products around the arm's own means: yy, xx, xy."""
        n = self.users
        return self.yy - self.y**2 / n, self.xx - self.x**2 / n, self.xy - self.x * self.y / n


_FIELDS = ("users", "y", "yy", "x", "xx", "xy", "some")


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """Rule for when there is enough to conclude anything: the intervals hold for large numbers."""

    users: int = 100
    """Of the smaller bundle."""
    outcomes: int = 30
    """Expected number of users with an outcome in the smaller bundle, if both had the same rate."""

    def ready(self, control: Arm, challenger: Arm) -> npt.NDArray[np.bool_]:
        """Return whether there is enough."""
        least = np.minimum(control.users, challenger.users)
        rate = (control.some + challenger.some) / np.maximum(control.users + challenger.users, 1)
        return np.asarray((least >= self.users) & (rate * least >= self.outcomes))

    def lacking(self, control: Arm, challenger: Arm) -> str:
        """Return what is lacking, in words; empty if nothing is."""
        if self.ready(control, challenger):
            return ""
        least = float(min(control.users, challenger.users))
        if least < self.users:
            return f"{least:,.0f} users of the smaller bundle are complete, and {self.users:,} are needed"
        rate = float((control.some + challenger.some) / (control.users + challenger.users))
        return f"{rate * least:,.0f} users with an outcome are expected in the smaller bundle, and {self.outcomes:,} are needed"


@dataclass(frozen=True, eq=False, kw_only=True)
class Effect:
    """Difference of the challenger's mean outcome and the served bundle's, adjusted by what users did before (CUPED).

    CUPED: Deng, Xu, Kohavi and Walker, "Improving the sensitivity of online controlled experiments by utilizing pre-experiment
    data" (WSDM 2013). The adjusted difference is the augmented inverse-propensity-weighted estimate of Waudby-Smith et al. (2021,
    section 3) with one common slope, so its confidence sequence is theirs.
    """

    difference: Floats
    deviation: Floats
    """Standard deviation of one user's contribution."""
    users: Floats
    slope: Floats
    """Of the outcome on the past; 0 where there is no past."""
    explained: Floats
    """Share of the variance that the past explains, and that the adjustment removes."""

    @classmethod
    def of(cls, control: Arm, challenger: Arm) -> Self:
        """Compute the effect from sums; meaningless before there are two users of each bundle."""
        with np.errstate(divide="ignore", invalid="ignore"):
            total = control + challenger
            (yy0, xx0, xy0), (yy1, xx1, xy1) = control.within, challenger.within
            xx, xy, yy = xx0 + xx1, xy0 + xy1, yy0 + yy1
            slope = np.where(xx > 0, xy / xx, 0.0)
            shift = slope * (challenger.x / challenger.users - control.x / control.users)
            pooled = (yy - slope * xy) / (total.users - 2)
            parts = [
                # An arm in which nothing happened yet has not shown that it varies less.
                np.maximum((yy_ - 2 * slope * xy_ + slope**2 * xx_) / (arm.users - 1), pooled) * total.users / arm.users
                for arm, yy_, xx_, xy_ in ((control, yy0, xx0, xy0), (challenger, yy1, xx1, xy1))
            ]
            return cls(
                difference=challenger.mean - control.mean - shift,
                deviation=np.sqrt(np.maximum(parts[0] + parts[1], 0.0)),
                users=total.users,
                slope=slope,
                explained=np.where((yy > 0) & (xx > 0), xy**2 / (xx * yy), 0.0),
            )

    def bounds(self, sequence: ConfidenceSequence) -> tuple[Floats, Floats]:
        """Return the lower and the upper bound of the difference."""
        half = sequence.radius(self.deviation, self.users)
        return self.difference - half, self.difference + half

    def interval(self, sequence: ConfidenceSequence) -> Interval:
        """Return the difference of one look with its interval."""
        low, high = self.bounds(sequence)
        return Interval(value=float(self.difference), low=float(low), high=float(high))
