"""Blocks of the user tower: one interface, a file for each kind."""

from rf_training.model.blocks.block import Block, BlockSize, Sight
from rf_training.model.blocks.make import TOWERS, TowerKind, make_block

__all__ = ["TOWERS", "Block", "BlockSize", "Sight", "TowerKind", "make_block"]
