"""Matrix factorisation of implicit feedback, by the library implicit."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from rf_training.baselines.library import optional_library
from rf_training.baselines.training_data import FittedState, TrainingData
from rf_training.evaluation.sequences import Jagged, training_items


class ALS:
    """Alternating least squares; a user's factors are solved from the history given, not looked up.

    Hu, Koren and Volinsky (2008), "Collaborative filtering for implicit feedback datasets", ICDM. Repeated events of an
    item add to its confidence. Since a history is folded in, it may be one never seen in training; the order of its
    events is not used. Items without training events score ``-inf``.
    """

    name = "als"
    SETTINGS: ClassVar[dict[str, float | int]] = {
        "factors": 128,
        "regularization": 0.05,
        "alpha": 5.0,
        "iterations": 15,
        "seed": 0,
    }
    """Chosen on the validation splits of MovieLens-1M and Amazon Beauty."""

    def __init__(self, model: Any, *, alpha: float, trained: npt.NDArray[np.bool_]) -> None:
        """``model``: a fitted ``implicit.cpu.als.AlternatingLeastSquares``; ``trained``: ``[n_items]``."""
        self.model = model
        self.alpha = alpha
        self.trained = trained

    @classmethod
    def fit(cls, data: TrainingData) -> "ALS":
        """Factorise the training events with :attr:`SETTINGS`; validation and test events are not looked at.

        Raises:
            ConfigError: If implicit is not installed.
        """
        with optional_library(cls.name):
            from threadpoolctl import threadpool_limits
        alpha = cls.SETTINGS["alpha"]
        matrix = _confidence(training_items(data.sequences), data.n_items, alpha)
        trained = np.bincount(matrix.indices, minlength=data.n_items) > 0
        with threadpool_limits(1, "blas"):  # implicit has threads of its own
            model = cls._model(data)
            model.fit(matrix, show_progress=False)
        return cls(model, alpha=alpha, trained=trained)

    @classmethod
    def restore(cls, data: TrainingData, state: FittedState) -> "ALS":
        """Rebuild what :meth:`state` described.

        Raises:
            ConfigError: If implicit is not installed.
        """
        model = cls._model(data)
        model.item_factors = state["item_factors"].numpy()
        return cls(model, alpha=cls.SETTINGS["alpha"], trained=state["trained"].numpy())

    def state(self) -> FittedState:
        """Return what was fitted: the items' factors, and which items have training events."""
        return {
            "item_factors": torch.from_numpy(np.array(self.model.item_factors)),
            "trained": torch.from_numpy(self.trained),
        }

    @classmethod
    def _model(cls, data: TrainingData) -> Any:
        with optional_library(cls.name):
            from implicit.cpu.als import AlternatingLeastSquares
        return AlternatingLeastSquares(
            factors=cls.SETTINGS["factors"],
            regularization=cls.SETTINGS["regularization"],
            alpha=1.0,  # already in the matrix
            iterations=cls.SETTINGS["iterations"],
            random_state=cls.SETTINGS["seed"],
            num_threads=data.threads,
        )

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        """``[B, n_items]``: product of the folded-in factors and those of the items."""
        n_items = len(self.trained)
        scores = np.full((len(histories), n_items), -np.inf, dtype=np.float32)
        if len(histories) == 0 or not self.trained.any():
            return scores
        with optional_library(self.name):
            from threadpoolctl import threadpool_limits
        with threadpool_limits(1, "blas"):
            factors = self.model.recalculate_user(
                np.arange(len(histories)), _confidence(histories, n_items, self.alpha)
            )
            scores[:, self.trained] = factors @ self.model.item_factors[self.trained].T
        return scores


def _confidence(items: Jagged, n_items: int, alpha: float) -> sparse.csr_matrix:
    """``[rows, n_items]``: 1 + alpha times the number of events, 0 where there is none."""
    ones = np.ones(len(items.values), dtype=np.float32)
    matrix = sparse.csr_matrix((ones, items.values, items.offsets), shape=(len(items), n_items), copy=True)
    matrix.sum_duplicates()
    matrix.data = 1 + np.float32(alpha) * matrix.data
    return matrix
