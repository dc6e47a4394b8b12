"""Training on a device: the same weights as on a CPU, one copy a step, and nothing that is waited for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rf_platform.dataset import Dataset
from rf_platform.errors import RunError
from rf_training import loss
from rf_training.config import Recipe, TrainConfig
from rf_training.model.config import ModelConfig
from rf_training.model.storage import load_model
from rf_training.trainer import Trainer, TrainResult

# Dropout draws its masks from a bank on CPUs only: without it the two draw alike. Attention has kernels of its own on CPUs.
RECIPE = Recipe(
    name="tiny",
    model=ModelConfig(dim=16, max_history=6, dropout=0.0),
    train=TrainConfig(
        epochs=1,
        batch_size=16,
        uniform_negatives=10,
        learning_rate=5e-3,
        ema_decay=0.5,
        precision="float32",
        device="cuda",
        checkpoint_steps=2,
    ),
)
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "exact softmax": ({}, {"objective": "full", "label_smoothing": 0.1}),
    "paper": (
        {"layout": "cls", "fusion": "attention", "bag_pooling": "attention"},
        {"uniformity_weight": 0.1, "norm_penalty": 1e-5, "variance_penalty": 0.1, "hard_negatives": 0.5},
    ),
    "own positives": ({"share_domains": False, "layout": "side"}, {"mask_own_positives": True, "optimizer": "muon"}),
}


def varied(name: str) -> Recipe:
    model, train = VARIANTS[name]
    return replace(RECIPE, model=replace(RECIPE.model, **model), train=replace(RECIPE.train, **train))


def on_cpu(recipe: Recipe) -> Recipe:
    return replace(recipe, train=replace(recipe.train, device="cpu"))


def close(far: Tensor, near: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(far.cpu(), near, rtol=1e-3, atol=atol)


def same(results: dict[str, TrainResult]) -> None:
    assert results["cuda"].validation == pytest.approx(results["cpu"].validation, abs=0.02)
    assert results["cuda"].steps == results["cpu"].steps


@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_is_that_of_the_cpu_and_waits_for_nothing(
    dataset: Dataset, tmp_path: Path, accelerator: Any, name: str
) -> None:
    trainers = [
        Trainer(recipe, dataset, tmp_path, accelerator.world) for recipe in (on_cpu(varied(name)), varied(name))
    ]
    here, there = trainers
    assert there.device == accelerator.device
    steps = []
    for trainer in trainers:
        torch.manual_seed(1)
        batches = trainer.loader.epoch(0)
        steps.append([trainer.step(next(batches)) for _ in range(2)])
        if trainer is there:
            accelerator.waits.clear()
            accelerator.sent = 0
            trainer.step(next(batches))
            assert (accelerator.waits, accelerator.sent) == ([], 1)
        else:
            trainer.step(next(batches))
    for (terms, norm), (far, far_norm) in zip(*steps, strict=True):
        close(far.loss, terms.loss)
        close(far.alignment, terms.alignment)
        close(far.uniformity, terms.uniformity)
        close(far_norm, norm)
    weights = dict(here.model.named_parameters())
    for key, weight in there.model.named_parameters():
        assert weight.device == accelerator.device
        close(weight.detach(), weights[key].detach(), atol=1e-3)


def test_a_whole_run_is_that_of_the_cpu(dataset: Dataset, tmp_path: Path, accelerator: Any) -> None:
    """Steps, validation, the weights that are kept, checkpoints, going on from one, and calibration."""
    results = {}
    for kind, recipe in (("cpu", on_cpu(RECIPE)), ("cuda", RECIPE)):
        (tmp_path / kind).mkdir()
        results[kind] = Trainer(recipe, dataset, tmp_path / kind, accelerator.world).run()
    same(results)
    kept = {kind: load_file(tmp_path / kind / "best" / "weights.safetensors") for kind in results}
    for name, weight in kept["cpu"].items():
        close(kept["cuda"][name], weight, atol=0.02)
    longer = replace(RECIPE, train=replace(RECIPE.train, epochs=2))
    for kind, recipe in (("cpu", on_cpu(longer)), ("cuda", longer)):
        results[kind] = Trainer(recipe, dataset, tmp_path / kind, accelerator.world).run(resume=True)
    same(results)
    assert results["cpu"].steps == 6


def test_validation_is_on_the_device(dataset: Dataset, tmp_path: Path, accelerator: Any) -> None:
    trainer = Trainer(RECIPE, dataset, tmp_path, accelerator.world)
    seen: list[torch.device] = []
    trainer.model.user_tower.register_forward_hook(lambda module, args, out: seen.append(out.device))
    trainer.average = None
    trainer._evaluate()
    assert seen
    assert set(seen) == {accelerator.device}
    trainer.validation.keep(trainer.model, {})
    model = load_model(tmp_path / "best", dataset.encoder, accelerator.device)
    assert model.device == accelerator.device
    assert load_model(tmp_path / "best", dataset.encoder).device == torch.device("cpu")


def test_a_loss_that_is_not_finite_is_told_with_its_step_when_losses_are_read(
    dataset: Dataset, tmp_path: Path, accelerator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses are read together, and before weights are kept."""
    monkeypatch.setattr(loss, "READ_EVERY", 4)
    trainer = Trainer(RECIPE, dataset, tmp_path, accelerator.world)
    batch = next(trainer.loader.epoch(0))
    trainer.step(batch)
    with torch.no_grad():
        trainer.model.interaction_gate.fill_(torch.nan)
    for _ in range(2):
        trainer.step(batch)
    with pytest.raises(RunError, match=r"the loss is nan at step 1 of epoch 1 .*learning_rate"):
        trainer._save()
    assert not (tmp_path / "checkpoints").exists()
    for _ in range(3):
        trainer.step(batch)
    with pytest.raises(RunError, match=r"the loss is nan at step 3 of epoch 1 "):
        trainer.step(batch)
