"""What an optimiser step does: decay, learning rate, clipping, and the running average that is kept."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rf_platform.dataset import Dataset
from rf_training.config import Recipe, TrainConfig
from rf_training.evaluation.metrics import REPORT_METRICS
from rf_training.evaluation.ranking import rank_targets
from rf_training.model.config import ModelConfig
from rf_training.model.storage import load_model
from rf_training.model_scorer import ModelScorer
from rf_training.trainer import Trainer, TrainResult

RECIPE = Recipe(
    name="tiny",
    model=ModelConfig(dim=16, max_history=6, dropout=0.1, heads=2),
    train=TrainConfig(epochs=2, batch_size=10, uniform_negatives=10, learning_rate=5e-3, ema_decay=0.6),
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def trainer(dataset: Dataset, directory: Path, **train: Any) -> Trainer:
    directory.mkdir(exist_ok=True)
    return Trainer(replace(RECIPE, train=replace(RECIPE.train, **train)), dataset, directory)


def decayed(dataset: Dataset, directory: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Parameters before and after steps without any gradient: only the decay moves them."""
    made = trainer(dataset, directory, weight_decay=0.5, learning_rate=0.1)
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.add_(torch.randn_like(parameter) + 3)
    before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    for _ in range(2):
        for parameter in made.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        made.optimizer.step()
    return {name: (before[name], p.detach()) for name, p in made.model.named_parameters()}


def test_matrices_are_decayed_and_nothing_else(dataset: Dataset, tmp_path: Path) -> None:
    parameters = decayed(dataset, tmp_path / "run")
    model = trainer(dataset, tmp_path / "other").model
    matrices = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.EmbeddingBag)}
    assert len(matrices) > 15
    assert matrices <= set(parameters)
    for name in matrices:
        before, after = parameters[name]
        torch.testing.assert_close(after, before * (1 - 0.1 * 0.5) ** 2, msg=name)
    left_alone = {name for name, (before, _) in parameters.items() if before.ndim < 2}
    assert {"user_tower.sep_D", "user_tower.norm.bias", "interaction_gate", "item_fusion.empty_D"} <= left_alone
    for name in left_alone:
        before, after = parameters[name]
        assert torch.equal(before, after), name


def test_the_biases_of_tokens_are_not_decayed(dataset: Dataset, tmp_path: Path) -> None:
    """They lie in one matrix, a row for each feature, and are biases all the same."""
    parameters = decayed(dataset, tmp_path / "run")
    for side in ("item", "user", "context"):
        before, after = parameters[f"{side}_tokens.bias_MD"]
        assert torch.equal(before, after), side


class Watch:
    """What every step of an optimiser saw."""

    def __init__(self, made: Trainer) -> None:
        self.rates: list[set[float]] = []
        self.norms: list[float] = []
        self.weights: list[dict[str, Tensor]] = []
        self._made = made
        made.optimizer.parts[0].register_step_pre_hook(self._before)
        made.optimizer.parts[0].register_step_post_hook(self._after)

    def _before(self, optimizer: Any, *_: Any) -> None:
        self.rates.append({group["lr"] for group in optimizer.param_groups})
        gradients = [p.grad for p in self._made.model.parameters() if p.grad is not None]
        self.norms.append(math.sqrt(sum(float((g.double() ** 2).sum()) for g in gradients)))

    def _after(self, *_: Any) -> None:
        self.weights.append({name: p.detach().clone() for name, p in self._made.model.named_parameters()})


def test_every_step_has_the_rate_of_the_schedule(dataset: Dataset, tmp_path: Path) -> None:
    """Up from the final rate during the warm-up, at the peak on its last step, then along a cosine."""
    made = trainer(dataset, tmp_path / "run", epochs=3, warmup_epochs=0.5, learning_rate=1e-2, final_learning_rate=1e-3)
    watch = Watch(made)
    made.run()
    steps = made.steps
    assert steps >= 4
    warmup, total = math.ceil(0.5 * steps), 3 * steps
    by_hand = [1e-3 + 9e-3 * (n + 1) / warmup for n in range(warmup)]
    by_hand += [1e-3 + 9e-3 * (1 + math.cos(math.pi * n / (total - warmup))) / 2 for n in range(total - warmup)]
    assert [len(rates) for rates in watch.rates] == [1] * total
    np.testing.assert_allclose([rates.pop() for rates in watch.rates], by_hand, rtol=1e-9)


def test_the_gradient_is_clipped(dataset: Dataset, tmp_path: Path) -> None:
    free = Watch(trained := trainer(dataset, tmp_path / "free", epochs=1, clip_norm=1e6))
    trained.run()
    assert min(free.norms) > 0.1
    clipped = Watch(trained := trainer(dataset, tmp_path / "clipped", epochs=1, clip_norm=0.05))
    trained.run()
    np.testing.assert_allclose(clipped.norms, 0.05, rtol=1e-3)
    rare = Watch(trained := trainer(dataset, tmp_path / "rare", epochs=1, clip_norm=2 * max(free.norms)))
    trained.run()
    np.testing.assert_allclose(rare.norms, free.norms, rtol=1e-5)  # a smaller gradient is left as it is


@pytest.fixture(scope="module")
def averaged(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Watch, TrainResult]:
    torch.set_num_threads(1)
    made = trainer(dataset, tmp_path_factory.mktemp("runs") / "run", epochs=1)
    watch = Watch(made)
    return made, watch, made.run()


def saved(made: Trainer) -> dict[str, Tensor]:
    state: dict[str, Tensor] = load_file(made.directory / "best" / "weights.safetensors")
    return state


def test_the_running_average_is_what_is_kept(averaged: tuple[Trainer, Watch, TrainResult]) -> None:
    """Averaged by hand from the weights after every step: the first as they are, then 0.6 old and 0.4 new."""
    made, watch, _ = averaged
    by_hand = watch.weights[0]
    for weights in watch.weights[1:]:
        by_hand = {name: 0.6 * old + 0.4 * weights[name] for name, old in by_hand.items()}
    kept = saved(made)
    assert set(by_hand) <= set(kept)
    for name, value in by_hand.items():
        torch.testing.assert_close(kept[name], value, atol=1e-6, rtol=1e-5, msg=name)
    raw = made.model.state_dict()
    assert not torch.allclose(kept["user_tower.project.weight"], raw["user_tower.project.weight"], atol=1e-5)


def test_the_running_average_is_what_is_validated(
    dataset: Dataset, averaged: tuple[Trainer, Watch, TrainResult]
) -> None:
    made, _, result = averaged
    model = load_model(made.directory / "best", dataset.encoder)
    ranks = rank_targets(ModelScorer(model, dataset), made.validation.cases, seed=made.recipe.train.seed)
    again = {metric.label.lower(): float(np.mean(metric(ranks.excluded))) for metric in REPORT_METRICS}
    assert again == result.validation
    raw = rank_targets(ModelScorer(made.model, dataset), made.validation.cases, seed=made.recipe.train.seed)
    assert raw.excluded.tolist() != ranks.excluded.tolist()  # else nothing is shown


def test_without_an_average_the_weights_themselves_are_kept(dataset: Dataset, tmp_path: Path) -> None:
    made = trainer(dataset, tmp_path / "run", epochs=1, ema_decay=0.0)
    made.run()
    kept = saved(made)
    for name, value in made.model.state_dict().items():
        assert torch.equal(kept[name], value), name
