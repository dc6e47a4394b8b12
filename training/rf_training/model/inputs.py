"""Encoded features as tensors."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rf_platform.features.jagged import EncodedTable
from rf_training.device import moved


@dataclass(frozen=True)
class FeatureTensors:
    """Model inputs of ``rows`` users, items or interactions, by full feature name; see ``EncodedTable``."""

    rows: int
    ids: dict[str, tuple[Tensor, Tensor]]
    """int64 values of all rows and int32 lengths [rows]."""
    numbers: dict[str, Tensor]
    """float32 [rows], NaN where missing."""
    vectors: dict[str, Tensor]
    """float32 [rows, width], NaN where missing."""

    @classmethod
    def from_encoded(cls, table: EncodedTable) -> "FeatureTensors":
        """Wrap encoded features without copying where possible."""
        return cls(
            rows=table.rows,
            ids={
                k: (torch.from_numpy(np.ascontiguousarray(v.values)), torch.from_numpy(np.ascontiguousarray(v.lengths)))
                for k, v in table.ids.items()
            },
            numbers={k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in table.numbers.items()},
            vectors={k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in table.vectors.items()},
        )

    def to(self, device: torch.device) -> "FeatureTensors":
        """Return the features on a device; the same object where it is the CPU."""
        return moved(self, device)


class Embedded(NamedTuple):
    """One categorical feature after the look-up."""

    pooled_RD: Tensor
    """Mean embedding [R, D]; zero where the feature has no value."""
    present_R: Tensor
    """bool [R]: whether the feature has a value."""

    def take(self, rows: Tensor) -> "Embedded":
        """Return the given rows, in that order."""
        return Embedded(self.pooled_RD[rows], self.present_R[rows])
