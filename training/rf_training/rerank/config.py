"""Size and shape of a re-ranker."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from rf_platform.errors import ConfigError

LinkWeights = Literal["softmax", "silu"]


@dataclass(frozen=True, kw_only=True)
class RerankConfig:
    """Everything that decides a re-ranker's parameters and their arithmetic, but the width of the towers."""

    kind: str = "lime-mha"
    """Name in :data:`rf_training.rerank.RERANKERS`. ``lime-mha`` and ``lime-xor``: LIME with one attention layer, or with blocks
    of XOR attention. ``target-attention``: every candidate attends the whole history, encoded by HSTU-like blocks: the bound of
    quality and cost. ``truncated``: the same over the last ``links`` interactions only. ``dot``: the order of the retriever."""

    links: int = 16
    """Learnable links of LIME, and the interactions that ``truncated`` reads."""

    heads: int = 2
    """Attention heads; an item of LIME keeps a weight for every link and head."""

    blocks: int = 3
    """Blocks of attention over the history in ``lime-xor``, ``target-attention`` and ``truncated``."""

    weights: LinkWeights = "softmax"
    """How an item's products with the links become its link weights."""

    width: int = 32
    """Numbers that LIME keeps of an item beside its link weights, for the scorer."""

    hidden: int = 32
    """Hidden width of LIME's scorer."""

    dropout: float = 0.1
    """Dropout of the history's tokens, behind attention and in the scorer."""

    scale: float = 1 / 0.07
    """Where the factor of the retriever's score starts, which is learned: one over the temperature that it was trained with."""

    def __post_init__(self) -> None:
        """Check what can be checked without the towers."""
        for name in ("links", "heads", "blocks", "width", "hidden"):
            if getattr(self, name) < 1:
                raise ConfigError(f"rerank.{name}={getattr(self, name)} must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"rerank.dropout={self.dropout} must be in [0, 1)")
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise ConfigError(f"rerank.scale={self.scale} must be a positive number")
        if self.weights not in (known := get_args(LinkWeights)):
            raise ConfigError(f"rerank.weights={self.weights!r} must be one of {', '.join(map(repr, known))}")
