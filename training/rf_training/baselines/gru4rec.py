"""GRU4Rec, by the library Cornac (a port of the authors' own PyTorch code)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rf_platform.cli.console import track
from rf_platform.errors import RunError
from rf_training.baselines.library import IdSequences, optional_library
from rf_training.baselines.training_data import FittedState, TrainingData
from rf_training.evaluation.sequences import Jagged, training_items

_SHAPE = ("n_items", "layers", "embedding", "constrained_embedding")
"""Arguments of Cornac's network that its weights and its scores depend on."""


@dataclass(frozen=True, kw_only=True)
class GRU4RecSettings:
    """Size and training; everything else is Cornac's default (one layer of 100 units, cross-entropy, 2,048 negatives)."""

    batch_size: int
    """Users in parallel."""
    epochs: int
    """Passes over the users."""
    dropout: float
    """Dropout of the hidden state."""
    learning_rate: float = 0.05
    """Step size of Adagrad."""
    seed: int = 0
    """Seed of the negatives, the order of users and dropout; Cornac always starts from the same weights."""


class GRU4Rec:
    """A recurrent network over item ids, trained to predict every next event.

    Hidasi and Karatzoglou (2018), "Recurrent neural networks with top-k gains for session-based recommendations", CIKM. A
    user's whole sequence is one session. Items without training events score ``-inf``.
    """

    name = "gru4rec"

    def __init__(self, model: Any, items: IdSequences) -> None:
        """``model``: Cornac's ``GRU4RecModel``."""
        self.model = model
        self.items = items

    @classmethod
    def fit(cls, data: TrainingData, settings: GRU4RecSettings) -> "GRU4Rec":
        """Train on the users with two or more training events; validation and test events are not looked at.

        Raises:
            ConfigError: If Cornac is not installed.
            RunError: If no user has two training events.
        """
        with optional_library(cls.name):
            from cornac import data as datasets
            from cornac import models
        train = training_items(data.sequences)
        trained_users = int((train.lengths > 1).sum())
        if trained_users == 0:
            raise RunError(f"baseline '{cls.name}' cannot be trained: no user has two training events")
        positions = np.arange(len(train.values)) - np.repeat(train.offsets[:-1], train.lengths)
        users = train.row_of_value.tolist()
        events = list(zip(users, users, train.values.tolist(), positions.tolist(), strict=True))
        dataset = datasets.SequentialDataset.build(events, fmt="USIT", seed=settings.seed)
        model = models.GRU4Rec(
            batch_size=min(settings.batch_size, trained_users),
            n_epochs=settings.epochs,
            dropout_p_hidden=settings.dropout,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
        )
        torch.manual_seed(settings.seed)
        with track(f"Training {cls.name}", total=1) as tracker:
            model.fit(dataset)
            tracker.advance()
        rows = np.fromiter(dataset.iid_map, np.int64, len(dataset.iid_map))
        return cls(model.model, IdSequences(rows, n_items=data.n_items, first=0))

    @classmethod
    def restore(cls, data: TrainingData, state: FittedState) -> "GRU4Rec":
        """Rebuild what :meth:`state` described.

        Raises:
            ConfigError: If Cornac is not installed.
        """
        with optional_library(cls.name):
            from cornac.models.gru4rec.gru4rec import GRU4RecModel
        model = GRU4RecModel(**state["arguments"])
        model.load_state_dict(state["weights"])
        return cls(model, IdSequences(state["item_rows"].numpy(), n_items=data.n_items, first=0))

    def state(self) -> FittedState:
        """Return what was fitted: the shape and the weights of the network, and the items in the order of its ids."""
        return {
            "arguments": {name: getattr(self.model, name) for name in _SHAPE},
            "weights": self.model.state_dict(),
            "item_rows": torch.from_numpy(self.items.item_rows),
        }

    @torch.inference_mode()
    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        """``[B, n_items]``: the state after the whole history against all items."""
        model, known = self.model.eval(), self.items.encode(histories)
        width = model.layers[-1]
        states = torch.zeros(len(known), width)
        order = np.argsort(-known.lengths, kind="stable")  # at every step the first rows are those still running
        lengths = known.lengths[order]
        for step in range(int(lengths.max(initial=0))):
            running = order[: np.searchsorted(-lengths, -step)]
            items = torch.from_numpy(known.values[known.offsets[running] + step].astype(np.int64))
            states[running] = model.hidden_step(model.Wy(items), [states[running]])
        n_known = len(self.items.item_rows)
        scores = model.score_items(states, model.Wy.weight[:n_known], model.By.weight[:n_known])
        return self.items.whole_catalog(scores.numpy())
