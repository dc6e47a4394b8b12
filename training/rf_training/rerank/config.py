"""Size and shape of a re-ranker."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from rf_platform.ranges import Count, Share, check_fields

LinkWeights = Literal["softmax", "silu"]


@dataclass(frozen=True, kw_only=True)
class RerankConfig:
    """Everything that decides a re-ranker's parameters and their arithmetic, but the width of the towers."""

    kind: str = "lime-mha"
    """Name in :data:`rf_training.rerank.RERANKERS`. ``lime-mha`` and ``lime-xor``: LIME with one attention layer, or with blocks
    of XOR attention. ``target-attention``: every candidate attends the whole history, encoded by HSTU-like blocks: the bound of
    quality and cost. ``truncated``: the same over the last ``links`` interactions only. ``dot``: the order of the retriever."""

    links: Count = 16
    """Learnable links of LIME, and the interactions that ``truncated`` reads."""

    heads: Count = 2
    """Attention heads; an item of LIME keeps a weight for every link and head."""

    blocks: Count = 3
    """Blocks of attention over the history in ``lime-xor``, ``target-attention`` and ``truncated``."""

    weights: LinkWeights = "softmax"
    """Function from an item's products with the links to its link weights."""

    width: Count = 32
    """Numbers that LIME keeps of an item beside its link weights, for the scorer."""

    hidden: Count = 32
    """Hidden width of LIME's scorer."""

    dropout: Share = 0.1
    """Dropout of the history's tokens, behind attention and in the scorer."""

    scale: Annotated[float, Field(gt=0, allow_inf_nan=False, description="be a positive number")] = 1 / 0.07
    """Initial value of the learned factor of the retriever's score: one over the temperature that it was trained with."""

    def __post_init__(self) -> None:
        """Check what can be checked without the towers."""
        check_fields(self, "rerank.")
