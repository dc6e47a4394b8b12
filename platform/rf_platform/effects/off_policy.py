"""Off-policy estimates: what a bundle would earn, from answers of another one, by the items that were drawn at random.

A policy with exploration puts drawn items at a share of the places and keeps the probability of each draw. An item that the new
bundle would show and that a draw has shown by chance is evidence about it, weighted by how rare the draw was. All other items of
an answer were chosen because of the user, and are evidence about nothing but themselves.

Three estimates of the same value, the expected reward of an answer of the new bundle:

- IPS, inverse propensity scores (Horvitz and Thompson, 1952): right on average, and wide;
- SNIPS, self-normalised (Swaminathan and Joachims, 2015): the weights are divided by their mean; narrower, a little biased;
- DR, doubly robust (Dudík, Langford and Li, 2011): a model of the reward, corrected by IPS where it is wrong.

They assume that the reward of an item depends on user, item and place, not on the other items of the answer (the item-position
model; Li et al., "Offline evaluation of ranking policies with click models", KDD 2018).

Shapes: A answers, D drawn items.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from rf_platform.effects.confidence_sequence import Floats, Interval

Ints = npt.NDArray[np.int64]
NOT_SHOWN = -1
CONFIDENCE = 0.95
LEAST_EFFECTIVE = 30
"""Effective draws below which an interval means nothing."""
LEAST_SUPPORT = 0.9
"""Share of the new bundle's places that draws have to be able to show."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DrawnItems:
    """Items drawn at random into logged answers, and what the new bundle would have shown there."""

    user_A: Ints
    """Number of the user of each answer: answers of one user are no independent evidence."""
    size_A: Ints
    """Items that the new bundle would show."""
    answer_D: Ints
    """Answer of each drawn item."""
    place_D: Ints
    """Place at which it stood; 0 is the first."""
    target_D: Ints
    """Place that the new bundle would show it at; :data:`NOT_SHOWN`: none."""
    propensity_D: Floats
    reward_D: Floats
    predicted_D: Floats
    """Reward by a model that has not seen it, at the place where the new bundle shows the item; 0 is a model, too."""
    predicted_A: Floats
    """Sum of the same over all items that the new bundle would show."""

    def __post_init__(self) -> None:
        """Check the propensities."""
        if len(self.propensity_D) and not ((self.propensity_D > 0) & (self.propensity_D <= 1)).all():
            raise ValueError("a drawn item has a propensity that is no probability")


@dataclass(frozen=True, kw_only=True)
class OffPolicy:
    """Estimates of the value of a bundle."""

    ips: Interval
    snips: Interval
    dr: Interval
    answers: int
    users: int
    matched: int
    """Drawn items that the new bundle would have shown."""
    effective: float
    """Effective sample size of the draws: with equal weights, so many would do (Kish, 1965)."""
    support: Interval
    """Share of the new bundle's places that draws could show: 1 if the propensities are true and nothing is barred from draws."""

    @property
    def refused(self) -> str:
        """Reason why the estimates mean nothing; empty if they mean something."""
        if not self.matched:
            return "no drawn item is one that the bundle would show, so nothing is known of its items"
        if self.support.high < LEAST_SUPPORT:
            return (
                f"draws could show {self.support.value:.0%} [{self.support.low:.0%}, {self.support.high:.0%}] of what the bundle "
                f"would show, and {LEAST_SUPPORT:.0%} are needed: let `exploration.among` take in all items that may be shown"
            )
        if self.support.low > 1.1:
            return (
                f"the weights sum to {self.support.value:.2f} of the places and not to 1: the propensities are not true"
            )
        if self.effective < LEAST_EFFECTIVE:
            return (
                f"the effective sample size is {self.effective:,.0f} draws, and {LEAST_EFFECTIVE} are needed: collect more "
                f"answers, or give exploration a larger share"
            )
        return ""


def estimate(drawn: DrawnItems, examination: Floats | None = None) -> OffPolicy:
    """Return the estimates.

    Args:
        drawn: what was drawn and what came of it.
        examination: by place, how much an item is looked at there; None: alike at all.
    """
    shown_D = drawn.target_D != NOT_SHOWN
    weight_D = np.where(shown_D, 1 / drawn.propensity_D, 0.0)
    reward_D = drawn.reward_D * (1.0 if examination is None else _moved(drawn, shown_D, examination))
    answers, size_A = len(drawn.user_A), drawn.size_A.astype(np.float64)

    def summed(values_D: Floats) -> Floats:
        return np.bincount(drawn.answer_D, values_D, minlength=answers).astype(np.float64)

    gained_A, weight_A = summed(weight_D * reward_D), summed(weight_D)
    corrected_A = drawn.predicted_A + summed(weight_D * (reward_D - drawn.predicted_D))
    normal = gained_A.sum() / weight_A.sum() if weight_A.any() else 0.0
    # The ratio of two sums varies as its linear part does.
    ratio_A = normal * size_A + (gained_A - normal * weight_A) * (size_A.sum() / max(weight_A.sum(), 1e-300))
    squares = float((weight_D**2).sum())
    support_A = weight_A / size_A.mean()
    return OffPolicy(
        ips=_mean(gained_A, drawn.user_A),
        snips=_mean(ratio_A, drawn.user_A),
        dr=_mean(corrected_A, drawn.user_A),
        answers=answers,
        users=len(np.unique(drawn.user_A)),
        matched=int(shown_D.sum()),
        effective=float(weight_D.sum()) ** 2 / squares if squares else 0.0,
        support=_mean(support_A, drawn.user_A),
    )


def contrast(drawn: DrawnItems, other: DrawnItems, examination: Floats | None = None) -> Interval:
    """Return the difference of the doubly robust values of two bundles by the same draws: the first less the second.

    What both would show cancels out, so this is narrower than the two intervals say.
    """
    totals = []
    for each in (drawn, other):
        shown_D = each.target_D != NOT_SHOWN
        moved = 1.0 if examination is None else _moved(each, shown_D, examination)
        left_D = np.where(shown_D, (each.reward_D * moved - each.predicted_D) / each.propensity_D, 0.0)
        totals.append(each.predicted_A + np.bincount(each.answer_D, left_D, minlength=len(each.user_A)))
    return _mean(totals[0] - totals[1], drawn.user_A)


def _moved(drawn: DrawnItems, shown_D: npt.NDArray[np.bool_], examination: Floats) -> Floats:
    """Return how much more each item is looked at where the new bundle shows it."""
    return np.where(shown_D, examination[np.where(shown_D, drawn.target_D, 0)] / examination[drawn.place_D], 1.0)


def _mean(values_A: Floats, user_A: Ints) -> Interval:
    """Return the mean over answers, with an interval for users drawn at random, each with all of their answers."""
    mean = float(values_A.mean())
    residual_U = np.bincount(np.unique(user_A, return_inverse=True)[1], values_A - mean)
    users = len(residual_U)
    if users < 2:
        return Interval(value=mean, low=-np.inf, high=np.inf)
    error = float(np.sqrt(users / (users - 1) * (residual_U**2).sum()) / len(values_A))
    half = float(student.ppf(0.5 + CONFIDENCE / 2, users - 1)) * error
    return Interval(value=mean, low=mean - half, high=mean + half)
