"""Sizes and kinds of ``rf bench rerank``."""

from dataclasses import dataclass

from rf_platform.errors import UsageError
from rf_training.rerank import RerankConfig
from rf_training.rerank.kinds import served_kinds
from rf_training.rerank.target_attention import TargetAttention

FULL = TargetAttention.kind
"""Kind of the full ranker, which the others are compared with."""
KINDS = (*served_kinds(), FULL)
"""Kinds that are measured: those that bundles take, and the full ranker."""
LEAST = 64
"""Start of both ranges."""


@dataclass(frozen=True, kw_only=True)
class RerankBenchOptions:
    """Sizes; every power of two between the least and the most is measured."""

    candidates: int = 1 << 15
    """Most candidates of a request."""
    history: int = 1 << 14
    """Longest history."""
    items: int = 100_000
    """Items that the candidates are drawn from."""
    dim: int = 64
    """Width of the towers."""
    links: int = RerankConfig.links
    heads: int = RerankConfig.heads
    rounds: int = 5
    """Number of turns of each re-ranker."""
    limit: float = 0.3
    """Most seconds of one request: what would take longer, going by what was measured, is not measured."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("candidates", "history"):
            value = getattr(self, name)
            if value < LEAST or value & (value - 1):
                raise UsageError(f"--{name}={value} must be a power of two, {LEAST} or more")
        if self.items < self.candidates:
            raise UsageError(f"--items={self.items} must be at least --candidates={self.candidates}")
        if not self.limit > 0:
            raise UsageError(f"--limit={self.limit} must be above 0")

    def config(self, kind: str) -> RerankConfig:
        """Return the configuration of a re-ranker; what is no option is as the platform trains it."""
        return RerankConfig(kind=kind, links=self.links, heads=self.heads)


def powers(most: int) -> list[int]:
    """Return the powers of two from :data:`LEAST` to ``most``."""
    return [1 << n for n in range(LEAST.bit_length() - 1, most.bit_length())]
