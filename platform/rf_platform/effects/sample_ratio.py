"""Check of the sample ratio: do the users of each bundle come in the numbers that the split assigned?

A ratio that is off says that users are lost on the way of one bundle, or counted twice, and that no other figure of the
experiment can be believed. The usual chi-squared test holds for one look; this one is always valid: Lindon and Malek,
"Anytime-valid inference for multinomial count data" (NeurIPS 2022). The evidence against the assigned shares is a Bayes factor
with a Dirichlet prior around them, which is a martingale where they are true (Ville's inequality).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

CONCENTRATION = 1_000.0
"""Weight of the prior, in users: evidence grows fastest against shares that are off by some percent of themselves."""
ALPHA = 0.001
"""Probability of a false alarm, over all looks together: an alarm stops an experiment, and is to be believed."""


@dataclass(frozen=True, kw_only=True)
class SampleRatio:
    """Users by bundle, against the shares that they were assigned by."""

    counts: tuple[int, ...]
    shares: tuple[float, ...]
    """Of all users, in the order of the counts; they sum to 1."""
    p_value: float
    """Always valid: the probability of evidence as strong as this at any moment, if the shares are true."""

    @property
    def mismatch(self) -> bool:
        """Whether the counts cannot be those of the shares."""
        return self.p_value < ALPHA

    @classmethod
    def of(cls, counts: Sequence[int], shares: Sequence[float]) -> "SampleRatio":
        """Compare counts with shares."""
        evidence = log_evidence(np.array(counts, np.float64), shares)
        return cls(counts=tuple(counts), shares=tuple(shares), p_value=float(np.exp(-np.maximum(evidence, 0.0))))


def log_evidence(counts: npt.NDArray[np.float64], shares: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the logarithm of the evidence against shares.

    Args:
        counts: ``[..., arms]`` users so far.
        shares: of the arms.
    """
    expected = np.asarray(shares, np.float64)
    prior = CONCENTRATION * expected
    total = counts.sum(axis=-1)
    marginal = (
        gammaln(CONCENTRATION)
        - gammaln(CONCENTRATION + total)
        + (gammaln(prior + counts) - gammaln(prior)).sum(axis=-1)
    )
    return np.asarray(marginal - (counts * np.log(expected)).sum(axis=-1))
