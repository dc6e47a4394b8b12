"""Optimisers and their learning rate: AdamW for everything, or Muon for the matrices of the transformer with AdamW for the rest.

Sharded tables have optimisers of their own, fused into the backward pass.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torchrec
from torch import nn
from torchrec.optim.keyed import KeyedOptimizer

from rf_training.average import replicated
from rf_training.config import ShardingConfig, TrainConfig
from rf_training.distributed.torchrec_logging import quiet_torchrec


@dataclass(frozen=True, kw_only=True)
class WarmupCosine:
    """From ``final`` up to ``peak`` during ``warmup`` steps, then along a cosine back to ``final`` at step ``total``."""

    peak: float
    final: float
    warmup: int
    total: int

    def at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.final + (self.peak - self.final) * (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, self.total - self.warmup))
        return self.final + (self.peak - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


BETAS = (0.9, 0.98)
ADAGRAD_RATE = 0.05
"""Default peak rate of row-wise Adagrad: its steps shrink with the squared gradients a row has seen."""


class Optimizer:
    """One or two torch optimisers that step together, at one learning rate, and perhaps one that is fused into the backward pass.

    Args:
        parts: the torch optimisers.
        fused: updates sharded tables during the backward pass; None without any.
        fused_rate: learning rate of ``fused``, in multiples of that of the others.
    """

    def __init__(
        self, parts: list[torch.optim.Optimizer], fused: KeyedOptimizer | None = None, fused_rate: float = 1.0
    ) -> None:
        self.parts, self.fused, self._fused_rate = parts, fused, fused_rate

    def set_learning_rate(self, rate: float) -> None:
        """Use ``rate`` from the next backward pass and step on."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
        if self.fused is not None:
            for group in self.fused.param_groups:
                group["lr"] = rate * self._fused_rate
            self.fused.zero_grad()  # hands the rate on to the kernels

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Update the weights; those of sharded tables have been in the backward pass."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the state of every part; that of the fused one lies with its tables."""
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


def fuse_table_optimizer(parameters: Iterable[nn.Parameter], sharding: ShardingConfig) -> None:
    """Have sharded tables updated in the backward pass; called before they are spread. The rate is set at every step."""
    with quiet_torchrec():  # the package compiles functions by a deprecated way that is not needed here
        from torch.distributed.optim.apply_optimizer_in_backward import _apply_optimizer_in_backward
    kind = {"rowwise_adagrad": torchrec.optim.RowWiseAdagrad, "adam": torch.optim.Adam}[sharding.optimizer]
    arguments: dict[str, Any] = {"lr": 0.0, "eps": 1e-8}
    _apply_optimizer_in_backward(kind, parameters, arguments | ({"betas": BETAS} if kind is torch.optim.Adam else {}))


def table_rate(train: TrainConfig, sharding: ShardingConfig) -> float:
    """Return the peak learning rate of sharded tables in multiples of that of everything else."""
    default = ADAGRAD_RATE if sharding.optimizer == "rowwise_adagrad" else train.learning_rate
    return (sharding.learning_rate or default) / train.learning_rate


def make_optimizer(
    model: nn.Module, train: TrainConfig, fused: KeyedOptimizer | None = None, fused_rate: float = 1.0
) -> Optimizer:
    """Return the optimiser of a recipe.

    Weight decay is for matrices, not for norms, biases and gates; the biases of feature tokens lie in one matrix, a row each.
    Muon (Jordan et al., 2024) orthogonalises the updates of the transformer's matrices; scaled to the size of an AdamW update
    (Liu et al., 2025, "Muon is scalable for LLM training"), so that both share the learning rate.

    Args:
        model: the model; its sharded tables are left to ``fused``.
        train: the settings.
        fused: what updates sharded tables.
        fused_rate: see :func:`table_rate`.
    """
    named = list(replicated(model).items())
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
    return Optimizer(parts, fused, fused_rate)
