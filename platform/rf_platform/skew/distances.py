"""Distances between two distributions of one feature, and the distances that chance makes of samples of the training split.

A feature's values are put into bins that the training split decides: numbers by its deciles, other values one by one for the
most frequent, with one bin for the rest and one for what is missing. Limits are no rules of thumb: whole users of the training
split are drawn again and again, as many as the other side has, and the limit is the distance that one such sample in a hundred
exceeds.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.float64]
_DECILES, _VALUES, _SMOOTHING = 10, 20, 0.5
_DRAWS, _CHANCE, _MOST_USERS = 200, 0.99, 5_000


@dataclass(frozen=True)
class Sample:
    """Values of a feature, each of a user; lists stand for each of their elements."""

    users: Sequence[Hashable]
    values: Sequence[Any]
    weights: Sequence[float] | None = None
    """Occurrences of each; None: one."""

    @property
    def flat(self) -> tuple[npt.NDArray[np.int64], list[Any], Counts]:
        """Number of the user, single value and weight, each; an empty list is a missing value."""
        number: dict[Hashable, int] = {}
        users: list[int] = []
        values: list[Any] = []
        weights: list[float] = []
        for i, (user, value) in enumerate(zip(self.users, self.values, strict=True)):
            n = number.setdefault(user, len(number))
            elements = (list(value) or [None]) if isinstance(value, list | tuple) else [value]
            weight = (1.0 if self.weights is None else self.weights[i]) / len(elements)
            users += [n] * len(elements)
            values += elements
            weights += [weight] * len(elements)
        return np.array(users, np.int64), values, np.array(weights)


@dataclass(frozen=True)
class Bins:
    """Bins of a feature, as the training split decides; the last one is for missing values."""

    edges: npt.NDArray[np.float64] | None
    """Of numbers; None: of single values."""
    known: dict[Any, int]
    """Bin of each frequent value."""

    @property
    def count(self) -> int:
        """Number of bins."""
        return (len(self.edges) + 1 if self.edges is not None else len(self.known) + 1) + 1

    @classmethod
    def of(cls, training: Sample, *, numeric: bool) -> "Bins":
        """Return the bins of the values of a training split."""
        _, values, weights = training.flat
        if numeric:
            numbers = np.array([v for v in values if v is not None], np.float64)
            edges = (
                np.unique(np.quantile(numbers, np.linspace(0, 1, _DECILES + 1)[1:-1])) if len(numbers) else np.zeros(0)
            )
            return cls(edges, {})
        totals: dict[Any, float] = {}
        for value, weight in zip(values, weights.tolist(), strict=True):
            if value is not None:
                totals[value] = totals.get(value, 0.0) + weight
        frequent = sorted(totals, key=lambda v: (-totals[v], str(v)))[:_VALUES]
        return cls(None, {value: n for n, value in enumerate(frequent)})

    def codes(self, values: Sequence[Any]) -> npt.NDArray[np.int64]:
        """Return the bin of each value."""
        missing = self.count - 1
        if self.edges is not None:
            numbers = np.array([np.nan if v is None else float(v) for v in values], np.float64)
            return np.where(np.isnan(numbers), missing, np.searchsorted(self.edges, numbers, "left")).astype(np.int64)
        return np.array([missing if v is None else self.known.get(v, missing - 1) for v in values], np.int64)

    def by_user(self, sample: Sample) -> Counts:
        """Return the weight in each bin, of each user [users, bins]."""
        users, values, weights = sample.flat
        counts = np.zeros((int(users.max(initial=-1)) + 1, self.count))
        np.add.at(counts, (users, self.codes(values)), weights)
        return counts


def psi(counts: Counts, reference: Counts) -> float:
    """Return the population stability index: the sum over bins of (p - q) · ln(p / q); half a count is added to each bin."""
    p, q = _shares(counts), _shares(reference)
    return float(np.sum((p - q) * np.log(p / q)))


def jensen_shannon(counts: Counts, reference: Counts) -> float:
    """Return the Jensen-Shannon distance: the root of the divergence to base 2, from 0 (equal) to 1 (nothing in common)."""
    p, q = counts / max(counts.sum(), 1e-300), reference / max(reference.sum(), 1e-300)
    middle = (p + q) / 2
    return float(np.sqrt(max(0.0, (_divergence(p, middle) + _divergence(q, middle)) / 2)))


def limits(by_user: Counts, users: int, random: np.random.Generator) -> tuple[float, float]:
    """Return the PSI and the Jensen-Shannon distance that one in a hundred samples of so many training users exceeds."""
    if len(by_user) > _MOST_USERS:
        by_user = by_user[random.choice(len(by_user), _MOST_USERS, replace=False)]
    drawn = random.multinomial(max(1, users), np.full(len(by_user), 1 / len(by_user)), size=_DRAWS)
    reference = by_user.sum(axis=0)
    samples = drawn @ by_user
    found = [(psi(sample, reference), jensen_shannon(sample, reference)) for sample in samples]
    each = np.quantile(np.array(found), _CHANCE, axis=0)
    return float(each[0]), float(each[1])


def rate_limit(by_user: Counts, column: int, users: int, random: np.random.Generator) -> float:
    """Return the share of one bin that one of a hundred samples of so many users of the training split exceeds."""
    drawn = random.multinomial(max(1, users), np.full(len(by_user), 1 / len(by_user)), size=_DRAWS)
    samples = drawn @ by_user
    return float(np.quantile(samples[:, column] / np.maximum(samples.sum(axis=1), 1e-300), _CHANCE))


def unknown_limit(training: Sample, random: np.random.Generator) -> float:
    """Return the share of values that only other users have: of a tenth of the users held out, at most in one of fifty draws."""
    users, values, weights = training.flat
    there = np.array([v is not None for v in values], np.bool_)
    codes = np.unique(np.array([str(v) for v in values]), return_inverse=True)[1]
    rates = [0.0]
    for _ in range(_DRAWS // 4):
        held = random.random(int(users.max(initial=0)) + 1)[users] < 0.1
        rest = np.zeros(int(codes.max(initial=0)) + 1, np.bool_)
        rest[codes[~held & there]] = True
        out = held & there
        if weights[out].sum():
            rates.append(float(weights[out & ~rest[codes]].sum() / weights[out].sum()))
    return float(np.quantile(rates, _CHANCE))


def _shares(counts: Counts) -> Counts:
    smoothed = counts + _SMOOTHING
    shares: Counts = smoothed / smoothed.sum()
    return shares


def _divergence(p: Counts, q: Counts) -> float:
    there = p > 0
    return float(np.sum(p[there] * np.log2(p[there] / q[there])))
