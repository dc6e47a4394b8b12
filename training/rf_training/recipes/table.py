"""Recipes, and the statistics of a training split by which they choose sizes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rf_platform.errors import NotFoundError
from rf_training.config import Recipe, TrainConfig
from rf_training.model.config import ModelConfig
from rf_training.recipes.recipe_file import is_recipe_file, read_recipe

if TYPE_CHECKING:
    from rf_platform.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class DatasetStatistics:
    """Sizes of a dataset's training split."""

    items: int
    """Items with a training event: what the exact softmax would run over."""
    users: int
    """Users with a training event."""
    events: int
    """Training events."""
    long_history: int
    """Training events of a user that nine in ten users do not exceed."""
    served_history: int
    """Interactions of a user that the online store keeps."""

    @classmethod
    def of(cls, dataset: "Dataset") -> "DatasetStatistics":
        """Count the training events of a dataset version."""
        counts = dataset.training_counts
        lengths = counts.of_user[counts.of_user > 0]
        return cls(
            items=int(np.count_nonzero(counts.of_item)),
            users=len(lengths),
            events=int(lengths.sum()),
            long_history=int(np.quantile(lengths, 0.9)) if len(lengths) else 0,
            served_history=dataset.spec.history_length,
        )

    @property
    def events_per_item(self) -> float:
        """Training events of the average item: how much there is to learn an item by."""
        return self.events / max(1, self.items)


TYPICAL = DatasetStatistics(items=1_700, users=940, events=98_000, long_history=240, served_history=50)
"""Those of MovieLens-100K: what a recipe is shown with where no dataset is at hand."""


FULL_SOFTMAX = 4e12
"""Most multiplications of an epoch's exact softmax (events x items x width x 3): about a minute of one core."""


FULL_ITEMS = 50_000
"""Most items that every step of the exact softmax encodes anew."""


def default(data: DatasetStatistics) -> Recipe:
    """Sizes chosen by the training split: how long its histories are, how many its events, how much it tells of an item."""
    dim = 128 if data.events >= 100_000 else 64
    long_histories = data.long_history > 50
    # More than the online store keeps would never be read.
    history = min(200 if data.long_history > 100 else 50, max(1, data.served_history))
    windows = max(data.users, 2 * data.events // history)
    sparse = data.events_per_item < 30
    full = data.items <= FULL_ITEMS and data.events * data.items * dim * 3 <= FULL_SOFTMAX
    return Recipe(
        name="default",
        model=ModelConfig(
            dim=dim,
            max_history=history,
            dropout=0.5 if sparse else 0.2,
            fusion="mean",
            bag_pooling="sum",
        ),
        train=TrainConfig(
            batch_size=_power_of_two(min(windows // 100, 32 if long_histories else 128)),
            objective="full" if full else "sampled",
            overlap=0.0 if history > 100 else 0.5,
            learning_rate=2e-3 if sparse or dim == 64 else 1e-3,
            weight_decay=1.0 if sparse else 0.05,
            optimizer="muon" if sparse else "adamw",
            label_smoothing=0.1 if sparse and full else 0.0,
        ),
    )


def demo(data: DatasetStatistics) -> Recipe:
    """Return the default recipe with fewer epochs: about a minute on two cores for MovieLens-100K."""
    base = default(data)
    return replace(base, name="demo", train=replace(base.train, epochs=5))


def paper(data: DatasetStatistics) -> Recipe:
    """Return the model and training of the paper, to compare with: its values (C.3, C.4), and sizes as in `default`.

    Of its own are the weight of the variance penalty, training at every position, and the average of the weights.
    """
    base = default(data)
    return Recipe(
        name="paper",
        model=replace(base.model, layout="cls", fusion="attention", bag_pooling="mean"),
        train=TrainConfig(
            batch_size=base.train.batch_size,
            overlap=base.train.overlap,
            objective="sampled",
            temperature=0.07,
            learning_rate=1e-3,
            final_learning_rate=1e-5,
            warmup_epochs=5.0,
            norm_penalty=1e-5,
            variance_penalty=0.1,
            composition="balanced",
        ),
    )


def ml_1m(data: DatasetStatistics) -> Recipe:
    """MovieLens-1M: long histories, few items; 2 x 128 wide, the exact softmax, 16 epochs."""
    return Recipe(
        name="ml-1m",
        model=ModelConfig(dim=128, max_history=200, dropout=0.2, fusion="mean"),
        train=TrainConfig(
            epochs=16,
            batch_size=32,
            overlap=0.0,
            objective="full",
            learning_rate=1e-3,
            weight_decay=0.05,
        ),
    )


def amazon_beauty(data: DatasetStatistics) -> Recipe:
    """Amazon reviews, Beauty: short histories and few events an item, which its attributes have to make up for."""
    return Recipe(
        name="amazon-beauty",
        model=ModelConfig(dim=128, max_history=50, dropout=0.5, fusion="mean", bag_pooling="sum"),
        train=TrainConfig(
            epochs=12, batch_size=128, objective="full", weight_decay=1.0, optimizer="muon", label_smoothing=0.1
        ),
    )


def amazon_toys(data: DatasetStatistics) -> Recipe:
    """Amazon reviews, Toys and Games: as sparse as Beauty, and trained alike."""
    return replace(amazon_beauty(data), name="amazon-toys")


RECIPES: dict[str, Callable[[DatasetStatistics], Recipe]] = {
    "default": default,
    "demo": demo,
    "paper": paper,
    "ml-1m": ml_1m,
    "amazon-beauty": amazon_beauty,
    "amazon-toys": amazon_toys,
}


def _power_of_two(limit: int) -> int:
    """Return the largest power of two up to ``limit``, and at least 8: small data needs its steps too."""
    return max(8, 1 << max(0, limit.bit_length() - 1))


def get_recipe(name: str, data: DatasetStatistics = TYPICAL) -> Recipe:
    """Return a recipe by name, or from a file.

    Args:
        name: one of :data:`RECIPES`, or the path of a YAML file, see :func:`read_recipe`.
        data: what its sizes are chosen by.

    Raises:
        NotFoundError: there is none of that name.
        UsageError: the file has another form, or a setting that is not one.
        ConfigError: its values contradict each other.
    """
    if is_recipe_file(name):
        return read_recipe(Path(name), lambda base: get_recipe(base, data))
    if name not in RECIPES:
        close = get_close_matches(name, RECIPES)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(RECIPES)}"
        raise NotFoundError(f"no recipe {name!r}; {hint}")
    return RECIPES[name](data)
