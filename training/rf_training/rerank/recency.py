"""How far back an interaction lies, in steps that grow with the distance.

Shapes: any.
"""

import torch
from torch import Tensor

EXACT = 16
"""Distances below it have a bucket of their own."""
PER_OCTAVE = 4
"""Buckets each time the distance doubles, beyond."""
BUCKETS = EXACT + 10 * PER_OCTAVE
"""The last bucket begins at 13,778 interactions and has no end: a history may be of any length."""


def buckets(distance: Tensor) -> Tensor:
    """Return the bucket of each distance, 0 to ``BUCKETS - 1``; distances are int64 and not negative."""
    octaves = torch.log2(distance.clamp(min=EXACT) / EXACT)
    beyond = EXACT + (octaves * PER_OCTAVE).long()
    return torch.where(distance < EXACT, distance, beyond).clamp(max=BUCKETS - 1)
