"""The running average of a model's weights."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

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
