"""The metrics of all scorers on one set of cases, and their bootstrap."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_training.evaluation.bootstrap import Estimate, bootstrap_means, estimates
from rf_training.evaluation.metrics import AUC, REPORT_METRICS
from rf_training.evaluation.result import ScorerResult, Seen

METRIC_LABELS = (*(metric.label for metric in REPORT_METRICS), AUC().label)
"""All metrics of a report, in order."""
METRIC_KEYS = tuple(label.lower() for label in METRIC_LABELS)
"""The same as in JSON."""
LABELS = dict(zip(METRIC_KEYS, METRIC_LABELS, strict=True))
"""Names in tables by those in JSON."""

_NO_WEIGHT = 1e-12
"""Divisor of a sample without any weight, with means of 0."""

Key = tuple[str, Seen]
"""A scorer under one treatment of seen items."""


def metric_values(ranks: npt.NDArray[np.int64], candidates: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """All metrics of each case, ``[n_cases, n_metrics]``, from the target's rank and the number of items ranked."""
    return np.stack([*(metric(ranks) for metric in REPORT_METRICS), AUC()(ranks, candidates)], axis=1)


@dataclass(frozen=True, eq=False)
class Sampled:
    """Metric values of every scorer on the same cases, and their means over the same resampled users."""

    columns: dict[Key, slice]
    """Columns of each scorer's metrics."""
    values_NM: npt.NDArray[np.float64]
    """``[n_cases, n_columns]``."""
    means_RM: npt.NDArray[np.float64]
    """``[resamples, n_columns]``."""

    @classmethod
    def draw(
        cls,
        blocks: Mapping[Key, npt.NDArray[np.float64]],
        *,
        resamples: int,
        seed: int | np.random.SeedSequence,
        weights: npt.NDArray[np.float64] | None = None,
    ) -> "Sampled":
        """Resample the users once for all scorers, treatments and metrics.

        Args:
            blocks: ``[n_cases, n_metrics]`` of each scorer and treatment, see :func:`metric_values`.
            resamples: number of bootstrap samples.
            seed: source of the draws.
            weights: ``[n_cases]``, not negative: means become weighted ones, in every sample by the weights of those drawn.
        """
        values = np.concatenate(list(blocks.values()), axis=1)
        width = len(METRIC_KEYS)
        columns = {key: slice(index * width, (index + 1) * width) for index, key in enumerate(blocks)}
        if weights is None:
            return cls(columns, values, bootstrap_means(values, resamples=resamples, seed=seed))
        weighed = np.column_stack([values * weights[:, None], weights])
        means = bootstrap_means(weighed, resamples=resamples, seed=seed)
        return cls(columns, weighed[:, :-1] / weights.mean(), means[:, :-1] / np.maximum(means[:, -1:], _NO_WEIGHT))

    def results(self, reference: str | None) -> tuple[ScorerResult, ...]:
        """Means and intervals in the order of the blocks, with paired differences from the reference."""
        found = []
        for (name, seen), own in self.columns.items():
            differences = None
            if reference is not None and name != reference:
                differences = self.differences((name, seen), (reference, seen))
            metrics = dict(zip(METRIC_KEYS, estimates(self.values_NM[:, own], self.means_RM[:, own]), strict=True))
            found.append(ScorerResult(scorer=name, seen=seen, metrics=metrics, differences=differences))
        return tuple(found)

    def differences(self, one: Key, other: Key) -> dict[str, Estimate]:
        """``one`` minus ``other`` by metric, paired by user."""
        left, right = self.columns[one], self.columns[other]
        paired = estimates(
            self.values_NM[:, left] - self.values_NM[:, right], self.means_RM[:, left] - self.means_RM[:, right]
        )
        return dict(zip(METRIC_KEYS, paired, strict=True))

    def mean(self, key: Key, metric: str) -> tuple[float, npt.NDArray[np.float64]]:
        """Mean of one metric over the cases, and ``[resamples]`` over the resampled users."""
        column = self.columns[key].start + METRIC_KEYS.index(metric)
        return float(self.values_NM[:, column].mean()), self.means_RM[:, column]
