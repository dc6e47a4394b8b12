"""How embedding tables are spread over processes, and how the spread ones are trained."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from rf_platform.errors import ConfigError

ShardingType = Literal["data_parallel", "table_wise", "column_wise", "row_wise"]
TableOptimizer = Literal["rowwise_adagrad", "adam"]


@dataclass(frozen=True, kw_only=True)
class ShardingConfig:
    """Which embedding tables every process has a copy of, and which lie in parts on several.

    Every table is in one of two states. *Data-parallel*: each process has all of it, AdamW trains it like the rest of the model.
    *Sharded*: each row or column is on one process, and an optimiser fused into the backward pass updates the rows of a step
    only, so neither gradients nor optimiser ever touch the whole table.
    """

    domains: dict[str, ShardingType] = field(default_factory=dict)
    """Sharding of single domains: ``data_parallel``; ``table_wise``, a whole table on one process; ``column_wise``, some columns
    on each; ``row_wise``, some rows on each, on GPUs only. For the rest see ``threshold_rows``."""

    threshold_rows: int = 1_000_000
    """A domain with fewer rows is data-parallel; for one with as many or more the planner chooses the cheapest sharding."""

    optimizer: TableOptimizer = "rowwise_adagrad"
    """Of sharded tables: ``rowwise_adagrad``, one number of state a row (and part of its columns), on CPUs and GPUs; ``adam``,
    two numbers a weight, on GPUs only."""

    learning_rate: float | None = None
    """Peak of the schedule for sharded tables; none: 0.05 for ``rowwise_adagrad``, ``train.learning_rate`` for ``adam``."""

    column_width: int = 32
    """Columns of one part of a ``column_wise`` table, a multiple of 4. Parts do not depend on the number of processes, so that a
    checkpoint fits any."""

    def __post_init__(self) -> None:
        """Check what can be checked without data."""
        for domain, sharding in self.domains.items():
            if sharding not in get_args(ShardingType):
                known = ", ".join(get_args(ShardingType))
                raise ConfigError(f"sharding.domains.{domain}={sharding!r} must be one of {known}")
        if self.optimizer not in get_args(TableOptimizer):
            raise ConfigError(
                f"sharding.optimizer={self.optimizer!r} must be one of {', '.join(get_args(TableOptimizer))}"
            )
        if self.threshold_rows < 1:
            raise ConfigError(f"sharding.threshold_rows={self.threshold_rows} must be at least 1")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ConfigError(f"sharding.learning_rate={self.learning_rate} must be positive, or none for the default")
        if self.column_width < 4 or self.column_width % 4:
            raise ConfigError(f"sharding.column_width={self.column_width} must be a multiple of 4")
