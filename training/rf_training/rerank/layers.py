"""Linear layers by how they start."""

from torch import nn


def identity(dim: int, bias: bool = True) -> nn.Linear:
    """Return a layer that starts by passing its input on: the space of the items is kept where it is useful."""
    layer = nn.Linear(dim, dim, bias=bias)
    nn.init.eye_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def small(inner: int, outer: int) -> nn.Linear:
    """Return the last layer of a branch that starts close to zero."""
    layer = nn.Linear(inner, outer)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


def silent(inner: int) -> nn.Linear:
    """Return the last layer of a score's correction, which starts at zero; its gradient does not."""
    layer = nn.Linear(inner, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
