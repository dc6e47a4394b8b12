"""Goals: what the user is to do next, buy or view, as a token that conditions the user tower.

Shapes: B users, R positions read, G goals, D width.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from rf_platform.errors import ConfigError, UsageError
from rf_platform.features.encode import FeatureEncoder
from rf_platform.features.meanings import EVENT_TYPE
from rf_platform.text import shown


class Goals(nn.Module):
    """Token of a mixture of goals, added to the place that asks the last block (as the profile known there is).

    A goal is a type of event. Weights over goals are the shares of the types that the next event is supposed to be of, and the
    token is linear in them, so one tower answers every mixture, trained once (Wilm et al., 2024, "Pareto front approximation
    for multi-objective session-based recommender systems" (MultiTRON), which conditions a session encoder on preferences).
    Tokens start at zero: at first all goals are one.
    """

    def __init__(self, names: Sequence[str], dim: int) -> None:
        super().__init__()
        self.names = tuple(names)
        """Types of events, in the order of the tokens."""
        self.goal_GD = nn.Parameter(torch.zeros(len(names), dim))
        self.mix_G = nn.Parameter(torch.full((len(names),), 1 / max(1, len(names))), requires_grad=False)
        """Weights where a request names no goal: shares of the types among the training targets. Not trained, but kept."""

    def forward(self, weight_BRG: Tensor | None = None) -> Tensor:
        """Return the tokens [B, R, D] of weights over goals that sum to 1; [1, 1, D] of :attr:`mix_G` without any."""
        token_BRD: Tensor = (self.mix_G[None, None] if weight_BRG is None else weight_BRG) @ self.goal_GD
        return token_BRD

    def weights(self, asked: Mapping[str, float]) -> Tensor:
        """Return weights [G] that sum to 1 from those that are asked for by name.

        Raises:
            UsageError: a goal is not known, a weight is not finite or negative, or none is above 0.
        """
        weight_G = torch.zeros(len(self.names))
        most = max(asked.values(), default=0.0)
        for name, weight in asked.items():
            if name not in self.names:
                near = get_close_matches(name, self.names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(self.names)}"
                raise UsageError(f"goals: {shown(name)} is no goal of this model; {hint}")
            if not 0 <= weight < float("inf"):
                raise UsageError(f"goals: the weight of {shown(name)} is {weight:g}; give a number of 0 or more")
            weight_G[self.names.index(name)] = weight / most if weight else 0.0  # else beyond float32, or lost in it
        if not weight_G.sum() > 0:
            raise UsageError(f"goals: no goal has a weight above 0; known are {', '.join(self.names)}")
        return weight_G / weight_G.sum()


def goal_names(encoder: FeatureEncoder) -> tuple[str, ...]:
    """Return the goals of a dataset: the types of its training events.

    Raises:
        ConfigError: the history keeps no types, those are hashed, or there is one type only.
    """
    field = next((f for f in encoder.spec.inputs("context") if f.of == EVENT_TYPE and f.domain is not None), None)
    if field is None or field.domain is None:
        raise ConfigError(
            f"model.goals=true needs types of events: add a field with role=history and of={EVENT_TYPE} to the view that "
            f"keeps the history of service '{encoder.spec.service}'"
        )
    vocabulary = encoder.vocabularies[field.domain]
    names = tuple(str(name) for name in vocabulary.values.to_pylist())
    if vocabulary.domain.buckets is not None:
        raise ConfigError(
            f"model.goals=true needs the names of the types, and {field.name} hashes them; leave out its vocabulary tag"
        )
    if len(names) < 2:
        only = f"all are of type {names[0]!r}" if names else "none has a type"
        raise ConfigError(
            f"model.goals=true needs training events of two types at least, and {only}; set model.goals=false"
        )
    return names
