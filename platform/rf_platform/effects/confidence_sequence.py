"""Always-valid intervals: one that may be looked at after every observation, and acted on at once.

An ordinary 95% interval is right at one moment that was fixed before; looked at every day, it excludes the truth sooner or later.
A confidence sequence contains the truth at all moments together with the given probability.

The method is the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit
theory and asymptotic confidence sequences" (Annals of Statistics 2024, arXiv:2103.06476), theorem 2.2. It was chosen over the
mixture sequential probability ratio test of Johari, Pekelis and Walsh (2015): that one needs a known variance or a parametric
model, and this one takes any outcome with a few moments, such as revenue, and any regression adjustment. Asymptotic means that it
holds from some sample size on: nothing is concluded before :class:`~rf_platform.effects.Readiness` allows it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import lambertw

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with an interval around it."""

    value: float
    low: float
    high: float

    def scaled(self, by: float) -> "Interval":
        """Return all three, times a number."""
        low, high = sorted((self.low * by, self.high * by))
        return Interval(value=self.value * by, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class ConfidenceSequence:
    """Widths of an always-valid interval."""

    alpha: float = 0.05
    """Probability that it ever excludes the truth."""
    tightest_at: float = 10_000.0
    """Number of observations at which it is narrowest, relative to its smallest possible width; it is valid at all."""

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0 < self.alpha < 1 or not self.tightest_at > 0:
            raise ValueError(f"no confidence sequence has alpha {self.alpha} and is tightest at {self.tightest_at}")

    @property
    def rho_squared(self) -> float:
        """Variance of the mixture that makes the width at :attr:`tightest_at` the least one."""
        return float((-lambertw(-(self.alpha**2) / np.e, -1).real - 1) / self.tightest_at)

    def radius(self, deviation: npt.ArrayLike, observations: npt.ArrayLike) -> Floats:
        """Return half the width of the interval of a mean.

        Args:
            deviation: standard deviation of one observation.
            observations: how many there are so far.
        """
        n, rho = np.asarray(observations, np.float64), self.rho_squared
        with np.errstate(divide="ignore"):  # of no observations it is infinite
            inside = 2 * (n * rho + 1) / (n**2 * rho) * np.log(np.sqrt(n * rho + 1) / self.alpha)
        return np.asarray(np.asarray(deviation, np.float64) * np.sqrt(inside))

    def of_mean(self, values: npt.ArrayLike) -> Interval:
        """Return the interval of the mean of independent observations, all that there are so far.

        Raises:
            ValueError: there are fewer than two.
        """
        observed = np.asarray(values, np.float64)
        if len(observed) < 2:
            raise ValueError("an interval needs at least two observations")
        half = float(self.radius(observed.std(ddof=1), len(observed)))
        mean = float(observed.mean())
        return Interval(value=mean, low=mean - half, high=mean + half)
