"""Bootstrap confidence intervals of means over users."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_platform.errors import RunError

CONFIDENCE = 0.95
"""Nominal coverage of the intervals."""
MAX_DRAWS = 1 << 21
"""Most resampled users held at once (at least one resample)."""


@dataclass(frozen=True)
class Estimate:
    """A mean over users with its percentile interval."""

    value: float
    """Mean over the users that were evaluated, not over the resamples."""
    low: float
    """Lower bound of the interval."""
    high: float
    """Upper bound of the interval."""


def bootstrap_means(
    values_NM: npt.NDArray[np.float64], *, resamples: int, seed: int | np.random.SeedSequence
) -> npt.NDArray[np.float64]:
    """Means of the columns over users drawn with replacement.

    All columns use the same draws: the difference of two columns of the result is the bootstrap of the *paired*
    difference.

    Args:
        values_NM: ``[n_users, n_columns]``: one row for each independent user.
        resamples: Number of bootstrap samples, each of ``n_users`` users.
        seed: Source of the draws.

    Returns:
        ``[resamples, n_columns]``.

    Raises:
        RunError: If there are no users.
        ValueError: If there are no resamples.
    """
    n_users, n_columns = values_NM.shape
    if n_users == 0:
        raise RunError(
            "no user was evaluated, so there is no mean to report; evaluate a split that holds out at least one event"
        )
    if resamples < 1:
        raise ValueError(f"cannot draw {resamples} resamples: it must be at least 1")
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, n_columns))
    step = max(1, MAX_DRAWS // n_users)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        draws = rng.integers(0, n_users, size=(count, n_users)) + np.arange(count)[:, None] * n_users
        times_drawn = np.bincount(draws.ravel(), minlength=count * n_users).reshape(count, n_users)
        means[start : start + count] = times_drawn.astype(np.float64) @ values_NM / n_users
    return means


def estimates(values_NM: npt.NDArray[np.float64], means_RM: npt.NDArray[np.float64]) -> list[Estimate]:
    """Mean and percentile interval of each column, from its values and their bootstrap means.

    The interval runs from the 2.5th to the 97.5th percentile of the resampled means (Efron and Tibshirani, 1993,
    "An introduction to the bootstrap", chapter 13). It covers the choice of users only: not the seed of a training
    run, nor that of the random order of ties. It degenerates to a point where all users have the same value (no hit
    at all gives ``[0, 0]``) and is somewhat too narrow for fewer than about 30 hits.
    """
    low, high = np.quantile(means_RM, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return [Estimate(*map(float, column)) for column in zip(values_NM.mean(axis=0), low, high, strict=True)]
