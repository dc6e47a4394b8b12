"""SASRec and BERT4Rec, by the library RecTools."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from rf_platform.cli.console import Tracker, track
from rf_platform.errors import RunError
from rf_training.baselines.library import IdSequences, optional_library, quiet, right_aligned
from rf_training.baselines.training_data import FittedState, TrainingData
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.metrics import NDCG
from rf_training.evaluation.ranking import rank_targets
from rf_training.evaluation.sequences import Jagged, Split, training_items

MIN_LENGTH, MAX_LENGTH = 10, 200
"""Fewest and most events that a model reads; between them, the 95th percentile of the users' training events."""
LONG_HISTORIES = 50
"""Mean training events of a user from which on a set counts as dense, like MovieLens."""


@dataclass(frozen=True, kw_only=True)
class TransformerSettings:
    """Size and training; everything else is RecTools' default (full softmax loss, Adam with learning rate 1e-3)."""

    factors: int = 64
    """Width: that of BERT4Rec's authors, SASRec's took 50."""
    heads: int = 2
    """Attention heads."""
    blocks: int = 2
    """Transformer blocks."""
    dropout: float
    """Dropout rate."""
    sparse_dropout: float
    """Dropout rate where users have fewer than :data:`LONG_HISTORIES` training events on average."""
    batch_size: int = 128
    """Users in a step."""
    max_epochs: int = 100
    """Most passes over the users."""
    patience: int = 5
    """Epochs without a better validation NDCG@20 after which training stops."""
    seed: int = 0
    """Seed of the initial weights, the order of users, dropout and masks."""


class RecToolsModel(ABC):
    """A transformer over item ids; its weights are those of the epoch that ranked the validation targets best.

    It learns from the training events of users with two or more of them. A history is cut to its latest known items, and
    items without training events score ``-inf``.
    """

    name: ClassVar[str]

    def __init__(self, torch_model: Any, items: IdSequences, length: int) -> None:
        """``torch_model``: RecTools' backbone; ``length``: the events that it reads."""
        self.torch_model = torch_model
        self.items = items
        self.length = length

    @classmethod
    def fit(cls, data: TrainingData, settings: TransformerSettings) -> Self:
        """Train with progress on standard error, one step an epoch.

        Raises:
            ConfigError: If RecTools is not installed.
            RunError: If no user has two training events.
        """
        with optional_library(cls.name):
            import pytorch_lightning as lightning
            import rectools  # noqa: F401 (to refuse before anything is fitted)
        train = training_items(data.sequences)
        if len(train) == 0 or train.lengths.max() < 2:
            raise RunError(f"baseline '{cls.name}' cannot be trained: no user has two training events")
        lengths = train.lengths[train.lengths > 1]
        length = int(np.clip(np.quantile(lengths, 0.95), MIN_LENGTH, MAX_LENGTH))
        dropout = settings.dropout if lengths.mean() >= LONG_HISTORIES else settings.sparse_dropout
        torch.manual_seed(settings.seed)
        np.random.seed(settings.seed)  # RecTools masks with numpy's global generator
        with quiet(), track(f"Training {cls.name}", total=settings.max_epochs) as tracker:
            callback = _make_callback(lightning, cls, data, settings, length, tracker)

            def trainer() -> Any:
                return lightning.Trainer(
                    max_epochs=settings.max_epochs,
                    callbacks=[callback],
                    accelerator="cpu",
                    logger=False,
                    enable_checkpointing=False,
                    enable_progress_bar=False,
                    enable_model_summary=False,
                )

            model = cls._model(_arguments(settings, length, dropout, trainer))
            model.fit(_rectools_dataset(train))
        best: Self = callback.best_scorer()
        return best

    @classmethod
    def restore(cls, data: TrainingData, settings: TransformerSettings, state: FittedState) -> Self:
        """Rebuild what :meth:`state` described; ``data`` and ``settings``: those of the fit.

        Raises:
            ConfigError: If RecTools is not installed.
        """
        with optional_library(cls.name):
            import pytorch_lightning as lightning
        with quiet():
            arguments = _arguments(settings, state["length"], 0.0, lambda: lightning.Trainer(logger=False))
            model = cls._model(arguments)
            model._build_model_from_dataset(_rectools_dataset(training_items(data.sequences)))
            torch_model = model.lightning_model.torch_model
        torch_model.load_state_dict(state["weights"])
        items = IdSequences(state["item_rows"].numpy(), n_items=data.n_items, first=state["first"])
        return cls(torch_model, items, state["length"])

    def state(self) -> FittedState:
        """Return what was fitted: the weights, how many events are read, and the items in the order of their ids."""
        return {
            "weights": self.torch_model.state_dict(),
            "item_rows": torch.from_numpy(self.items.item_rows),
            "first": self.items.first,
            "length": self.length,
        }

    @classmethod
    @abstractmethod
    def _model(cls, arguments: dict[str, Any]) -> Any:
        """RecTools' model, not yet fitted."""

    @abstractmethod
    def _inputs(self, known: Jagged) -> npt.NDArray[np.int64]:
        """``[B, L]``: what the model reads to predict the event after each history."""

    @torch.inference_mode()
    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        """``[B, n_items]``: dot products of the session's last state with the item embeddings."""
        model = self.torch_model.eval()
        embeddings = model.item_model.get_all_embeddings()
        x = torch.from_numpy(self._inputs(self.items.encode(histories)))
        if len(x) == 0:
            return self.items.whole_catalog(np.zeros((0, len(self.items.item_rows)), np.float32))
        sessions = model.encode_sessions({"x": x}, embeddings)[:, -1]
        return self.items.whole_catalog((sessions @ embeddings[self.items.first :].T).numpy())


class SASRec(RecToolsModel):
    """Self-attention over the sequence, trained to predict every next event.

    Kang and McAuley (2018), "Self-attentive sequential recommendation", ICDM; the full softmax loss is RecTools' default
    and stronger than the authors' binary one.
    """

    name = "sasrec"

    @classmethod
    def _model(cls, arguments: dict[str, Any]) -> Any:
        with optional_library(cls.name):
            from rectools.models import SASRecModel
        return SASRecModel(**arguments)

    def _inputs(self, known: Jagged) -> npt.NDArray[np.int64]:
        return right_aligned(known, length=self.length)


class BERT4Rec(RecToolsModel):
    """Bidirectional self-attention, trained to fill in masked events; the one to predict is masked at the end.

    Sun et al. (2019), "BERT4Rec: sequential recommendation with bidirectional encoder representations from transformer",
    CIKM.
    """

    name = "bert4rec"

    MASK = 1
    """RecTools' id of the mask; 0 is padding."""

    @classmethod
    def _model(cls, arguments: dict[str, Any]) -> Any:
        with optional_library(cls.name):
            from rectools.models import BERT4RecModel
        return BERT4RecModel(**arguments)

    def _inputs(self, known: Jagged) -> npt.NDArray[np.int64]:
        before = right_aligned(known, length=self.length - 1)
        return np.pad(before, ((0, 0), (0, 1)), constant_values=self.MASK)


def _arguments(settings: TransformerSettings, length: int, dropout: float, trainer: Any) -> dict[str, Any]:
    return {
        "n_factors": settings.factors,
        "n_heads": settings.heads,
        "n_blocks": settings.blocks,
        "dropout_rate": dropout,
        "batch_size": settings.batch_size,
        "session_max_len": length,
        "get_trainer_func": trainer,
    }


def _rectools_dataset(train: Jagged) -> Any:
    """Return the training events in RecTools' form; it orders by time, so positions stand for times."""
    positions = np.arange(len(train.values)) - np.repeat(train.offsets[:-1], train.lengths)
    frame = pd.DataFrame(
        {
            "user_id": train.row_of_value,
            "item_id": train.values.astype(np.int64),
            "weight": 1.0,
            "datetime": pd.Timestamp("2000-01-01") + pd.to_timedelta(positions, unit="s"),
        }
    )
    with optional_library("sasrec"):
        from rectools.dataset import Dataset
    return Dataset.construct(frame)


def _make_callback(
    lightning: Any,
    scorer_type: type[RecToolsModel],
    data: TrainingData,
    settings: TransformerSettings,
    length: int,
    tracker: Tracker,
) -> Any:
    """Lightning's callback that ranks the validation targets after each epoch; its base class comes with the library."""
    try:
        cases = EvaluationCases.from_sequences(data.sequences, n_items=data.n_items, split=Split.VALIDATION)
    except RunError:  # nothing held out: the last epoch is taken
        cases = None

    class ValidationRanking(lightning.Callback):  # type: ignore[misc]
        """Keeps the weights of the best epoch, and stops when the last ``patience`` ones were no better."""

        def __init__(self) -> None:
            self.best, self.best_epoch = -1.0, 0
            self.weights: dict[str, torch.Tensor] = {}
            self.scorer: Any = None

        def __deepcopy__(self, memo: Any) -> "ValidationRanking":
            return self  # RecTools trains with a deep copy of the trainer

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            rows = np.asarray(module.item_external_ids)[len(module.item_extra_tokens) :].astype(np.int64)
            items = IdSequences(rows, n_items=data.n_items, first=len(module.item_extra_tokens))
            self.scorer = scorer_type(module.torch_model, items, length)
            epoch, value = trainer.current_epoch + 1, float(trainer.current_epoch)
            if cases is not None:
                value = float(NDCG(20)(rank_targets(self.scorer, cases, seed=0).excluded).mean())
            if value > self.best:
                self.best, self.best_epoch = value, epoch
                self.weights = {k: v.detach().clone() for k, v in module.torch_model.state_dict().items()}
            module.torch_model.train()
            trainer.should_stop = epoch - self.best_epoch >= settings.patience
            tracker.advance(note="" if cases is None else f"validation ndcg@20 {value:.4f}, best {self.best:.4f}")

        def best_scorer(self) -> Any:
            self.scorer.torch_model.load_state_dict(self.weights)
            return self.scorer

    return ValidationRanking()
