"""Optimisers: AdamW for everything, or Muon for the matrices of the transformer with AdamW for the rest."""

from typing import Any

import torch
from torch import nn

from rf_training.config import TrainConfig

BETAS = (0.9, 0.98)


class Optimizer:
    """One or two torch optimisers that step together, at one learning rate."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts

    def set_learning_rate(self, rate: float) -> None:
        """Use ``rate`` from the next step on."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Update the weights."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the state of every part."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Take a state up again.

        Raises:
            ValueError: the state is of another set of optimisers.
        """
        if not isinstance(states, list) or len(states) != len(self.parts):
            raise ValueError("the state is of another set of optimisers")
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def make_optimizer(model: nn.Module, train: TrainConfig) -> Optimizer:
    """Return the optimiser of a recipe.

    Weight decay is for matrices, not for norms, biases and gates; the biases of feature tokens lie in one matrix, a row each.
    Muon (Jordan et al., 2024) orthogonalises the updates of the transformer's matrices; scaled to the size of an AdamW update
    (Liu et al., 2025, "Muon is scalable for LLM training"), so that both share the learning rate.
    """
    named = list(model.named_parameters())
    muon = [p for name, p in named if train.optimizer == "muon" and ".blocks." in name and p.ndim == 2]
    chosen = {id(p) for p in muon}
    rest = [(name, p) for name, p in named if id(p) not in chosen]
    decay = [p for name, p in rest if p.ndim >= 2 and not name.endswith("bias_MD")]
    plain = [p for name, p in rest if p.ndim < 2 or name.endswith("bias_MD")]
    groups = [{"params": decay, "weight_decay": train.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=train.learning_rate, betas=BETAS, fused=True)]
    if muon:
        parts.append(
            torch.optim.Muon(
                muon, lr=train.learning_rate, weight_decay=train.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    return Optimizer(parts)
