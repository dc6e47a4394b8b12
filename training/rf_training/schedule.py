"""Learning rate: linear warm-up, cosine back (R12)."""

import math
from dataclasses import dataclass


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
