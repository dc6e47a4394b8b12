"""Optimisers, their learning rate and the running average of the weights: AdamW, or Muon for the matrices of the transformer.

Sharded tables have optimisers of their own, fused into the backward pass.
"""

import math
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torchrec
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torchrec.optim.keyed import KeyedOptimizer

from rf_training.config import ShardingConfig, TrainConfig
from rf_training.distributed.torchrec_logging import quiet_torchrec
from rf_training.model.retrievalformer import RetrievalFormer


class WeightAverage:
    """Exponential average of all weights that every process has: what is evaluated and served instead of the last ones.

    Sharded tables have no average: it would touch every row at every step, which is what their optimiser avoids.

    Args:
        model: before its tables are spread; the average starts from its weights after the first step.
        decay: weight of the past.
    """

    def __init__(self, model: RetrievalFormer, decay: float) -> None:
        self.model = deepcopy(model).requires_grad_(False)
        self._average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._own = replicated(self.model)
        self._updates = 0

    @torch.no_grad()
    def update(self, new: dict[str, Tensor]) -> None:
        """Take the weights of now in, by the names of :func:`replicated`."""
        if self._updates == 0:
            for name, weight in self._own.items():
                weight.copy_(new[name])
        else:
            self._average(list(self._own.values()), [new[name].detach() for name in self._own], self._updates)
        self._updates += 1

    def restart(self, new: dict[str, Tensor]) -> None:
        """Start over, with the weights of now for an average until the next update."""
        self._updates = 0
        self.update(new)
        self._updates = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of updates it has seen."""
        return {"updates": self._updates, "weights": {name: w.detach() for name, w in self._own.items()}}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take an average up again.

        Raises:
            ValueError: it is of another model.
        """
        copy_into(self._own, state["weights"])
        self._updates = state["updates"]


def replicated(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that every process has, by name: all but those of sharded tables."""
    return {name: p for name, p in model.named_parameters() if ".sharded." not in name}


def copy_into(weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    """Copy weights by name.

    Raises:
        ValueError: the names or shapes are others.
    """
    shapes = {name: tuple(w.shape) for name, w in weights.items()}
    if not isinstance(state, dict) or shapes != {name: tuple(w.shape) for name, w in state.items()}:
        raise ValueError("the weights are of another model")
    for name, weight in weights.items():
        weight.copy_(state[name])


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
NO_MATRICES = ("bias_MD", "response_FD2", "goal_GD")
"""Ends of the names of parameters that have the shape of matrices only: the biases of feature tokens, a row each, the spectra of
filters, which a decay would silence, and the tokens of goals."""
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
    """Fuse the update of sharded tables into the backward pass; called before they are spread. The rate is set at every step."""
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

    Weight decay is for matrices, not for norms, biases, gates and filters; see :data:`NO_MATRICES`.
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
    plain = [p for name, p in rest if p.ndim < 2 or name.endswith(NO_MATRICES)]
    decay = [p for name, p in rest if p.ndim >= 2 and not name.endswith(NO_MATRICES)]
    groups = [{"params": decay, "weight_decay": train.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=train.learning_rate, betas=BETAS, fused=True)]
    if muon:
        parts.append(
            torch.optim.Muon(
                muon, lr=train.learning_rate, weight_decay=train.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    return Optimizer(parts, fused, fused_rate)
