"""Table of user towers by name."""

from dataclasses import dataclass
from typing import Any

from rf_platform.parts import Parts
from rf_training.model.blocks.attentive_filter import AttentiveFilterBlock
from rf_training.model.blocks.block import Block, BlockSize
from rf_training.model.blocks.filter import FilterBlock
from rf_training.model.blocks.hstu import HstuBlock
from rf_training.model.blocks.transformer import TransformerBlock


@dataclass(frozen=True)
class TowerKind:
    """A kind of user tower: its blocks, and the layouts of the sequence that they can read."""

    block: type[Block]
    layouts: tuple[str, ...] = ("cls", "prefix", "side")


def _made(found: Any) -> TowerKind | None:
    if isinstance(found, type) and issubclass(found, Block):
        return TowerKind(found, ("prefix", "side"))
    return found if isinstance(found, TowerKind) else None


TOWERS: Parts[TowerKind] = Parts(
    "encoders",
    {
        "transformer": TowerKind(TransformerBlock),
        "hstu": TowerKind(HstuBlock),
        # In `cls` a place is taken by a token of every position read, which a filter over places cannot tell apart.
        "filter": TowerKind(FilterBlock, ("prefix", "side")),
        "attentive-filter": TowerKind(AttentiveFilterBlock, ("prefix", "side")),
    },
    _made,
)
"""All user towers by name: what recipes and the ablation choose from. Each has a form in ``model/served/blocks.py``; the block of
another package, a :class:`Block` or a :class:`TowerKind`, is exported by ``model/served/exported.py``."""


def make_block(tower: str, size: BlockSize) -> Block:
    """Return a block of the tower named in a recipe."""
    return TOWERS[tower].block(size)
