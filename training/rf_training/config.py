"""Configuration of a training run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal

from pydantic import Field

from rf_platform.errors import ConfigError
from rf_platform.features.event_weights import EventWeights
from rf_platform.ranges import Count, Positive, Share, Weight, Whole, check_fields
from rf_training.model.config import ModelConfig

if TYPE_CHECKING:  # `rf train --help` needs no Arrow
    from rf_platform.features.spec import FeatureSpec

ShardingType = Literal["data_parallel", "table_wise", "column_wise", "row_wise"]
TableOptimizer = Literal["rowwise_adagrad", "adam"]


@dataclass(frozen=True, kw_only=True)
class ShardingConfig:
    """Sharding of the embedding tables over the processes of a run.

    Every table is in one of two states. *Data-parallel*: each process has all of it, AdamW trains it like the rest of the model.
    *Sharded*: each row or column is on one process, and an optimiser fused into the backward pass updates the rows of a step
    only, so neither gradients nor optimiser ever touch the whole table.
    """

    domains: dict[str, ShardingType] = field(default_factory=dict)
    """Sharding of single domains: ``data_parallel``; ``table_wise``, a whole table on one process; ``column_wise``, some columns
    on each; ``row_wise``, some rows on each, on GPUs only. For the rest see ``threshold_rows``."""

    threshold_rows: Count = 1_000_000
    """A domain with fewer rows is data-parallel; for one with as many or more the planner chooses the cheapest sharding."""

    optimizer: TableOptimizer = "rowwise_adagrad"
    """Of sharded tables: ``rowwise_adagrad``, one number of state a row (and part of its columns), on CPUs and GPUs; ``adam``,
    two numbers a weight, on GPUs only."""

    learning_rate: Annotated[Positive | None, Field(description="be positive, or none for the default")] = None
    """Peak of the schedule for sharded tables; none: 0.05 for ``rowwise_adagrad``, ``train.learning_rate`` for ``adam``."""

    column_width: Annotated[int, Field(ge=4, multiple_of=4, description="be a multiple of 4")] = 32
    """Columns of one part of a ``column_wise`` table, a multiple of 4. Parts do not depend on the number of processes, so that a
    checkpoint fits any."""

    def __post_init__(self) -> None:
        """Check what can be checked without data."""
        check_fields(self, "sharding.")


NATURAL: Final = "natural"
ColdBudget = Annotated[Share | Literal["natural"], Field(description=f"be {NATURAL}, or a share in [0, 1)")]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training: objective, optimisation, batches, regularisation."""

    OF_OBJECTIVE: ClassVar[Mapping[str, str]] = {
        "label_smoothing": "full",
        "hard_negatives": "sampled",
        "mask_own_positives": "sampled",
        "sampler": "sampled",
    }
    """Settings that belong to one objective, and are left at their defaults with the other."""

    epochs: Count = 12
    """Passes over the training events."""

    objective: Literal["sampled", "full"] = "sampled"
    """``sampled``: InfoNCE over the batch's positives and uniform negatives (R9). ``full``: the exact softmax over all items of
    the training split, for catalogs up to some 50,000 items."""

    loss: str = "contrastive"
    """Name in :data:`rf_training.objective.LOSSES`, or ``package.module:name`` of your own: from the scores of targets and
    candidates to what is minimised. ``contrastive``: the cross-entropy of the objective."""

    positions: Literal["all", "one"] = "all"
    """``all``: every position of a window is a training example. ``one``: one of them, at random, as the paper trains."""

    batch_size: Count = 32
    """History windows per step; every position of a window is a training example."""

    overlap: Share = 0.5
    """A history longer than the model reads is cut into windows; this share of a window's inputs belongs to the window before
    it, so that late targets of the earlier window are not the only ones with a full history."""

    learning_rate: Positive = 2e-3
    """Peak of the schedule (R12 has 1e-3; with windows of dense targets twice that did better on validation)."""

    final_learning_rate: Positive = 1e-5
    """Learning rate at the start of the warm-up and the end of the cosine (R12)."""

    warmup_epochs: Weight = 1.0
    """Length of the linear warm-up."""

    weight_decay: Weight = 0.01
    """AdamW's decay of matrices; norms, biases and gates are left alone."""

    clip_norm: Positive = 5.0
    """Largest norm of the gradient."""

    temperature: Positive = 0.07
    """Temperature of the contrastive loss (R9)."""

    uniform_negatives: Whole = 1000
    """Catalog items drawn for every step, beside the other positives of the batch (mixed negative sampling, R9); objective
    ``sampled`` only."""

    sampler: str = "uniform"
    """Name in :data:`rf_training.objective.SAMPLERS`, or ``package.module:name`` of your own: how these items are drawn.
    ``uniform``: all alike; ``popularity``: by their training events to the power of 0.75. Objective ``sampled`` only."""

    label_smoothing: Share = 0.0
    """Share of the target's probability that goes to all items alike; objective ``full`` only."""

    hard_negatives: Weight = 0.0
    """Concentration of hard negatives (R15), 0 for plain ones; objective ``sampled`` only."""

    unwanted_weight: Weight = 1.0
    """Weight of the term that ranks a target above an item which its user had declared unwanted by then; it is 0 for a dataset
    with wanted events only."""

    weigh_by: str = "declared"
    """Source of the weights of targets. ``declared``: the weights of the dataset's feature repository and ``event_weights``;
    ``equal``: every target alike; else a column with numbers that the history keeps, such as ``rating``."""

    event_weights: dict[str, Weight] = field(default_factory=dict)
    """Weights of targets by the type of their event, as ``event_weights.purchase=5``: the loss of a target, and its share in the
    validation metric, count as much. They take the place of those that the dataset declares, type by type; a type of neither
    weighs 1."""

    goal_share: Share = 0.5
    """Share of the targets that are trained with weights over goals of their own; the others have those of a request that names
    no goal. With ``model.goals`` only."""

    uniformity_weight: Weight = 0.0
    """Weight of an explicit uniformity term over the candidates; the contrastive loss has one implicitly."""

    norm_penalty: Weight = 0.0
    """Weight of the squared length of the towers' outputs before they are normalised (R10; the paper has 1e-5)."""

    variance_penalty: Weight = 0.0
    """Weight of the penalty on dimensions in which the candidates vary too little (R10)."""

    composition: Literal["random", "balanced"] = "random"
    """Composition of batches from windows (R14)."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """``muon``: Muon for the matrices of the transformer, AdamW for everything else."""

    mask_own_positives: bool = False
    """Leave the other positives of a history window out of its negatives too, not only other occurrences of the target."""

    cold_budget: ColdBudget = NATURAL
    """Budget for raising the scores of items without an id of their own after training. ``natural``: as far as that helps the
    validation targets, known and new ones as often as they occur, and not at all where it does not. A number: as far as it costs
    no more than this share of the validation NDCG@20 on known items, to show new items more often. 0: never."""

    cold_weight: Positive = 1.0
    """Known targets that one target with a new item is worth where ``cold_budget`` is natural: more than 1 shows new items more
    often than they are chosen yet, at a price for all targets together that training prints."""

    validation_cases: Count = 25_000
    """Most validation targets that are ranked after every epoch; of more, so many are drawn by the seed, the same every time.
    Their ranking costs cases x items of the catalog, and 25,000 know Recall@20 to 0.003."""

    ema_decay: Share = 0.995
    """Decay of the running average of the weights that is evaluated and served; 0 turns it off."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of large matrix products; weights and sums are float32 in any case. ``auto``: bfloat16 where the processor
    multiplies it in hardware, which is several times faster there, float32 elsewhere."""

    seed: Whole = 0
    """Same seed, same data and same machine: same result; on CPUs to the last bit."""

    device: Literal["cpu", "cuda"] = "cpu"
    """``cuda``: every process trains on a GPU of its own, that with its number on the host. Validation, evaluation, bundles and
    re-rankers follow, where there is one; a model with sharded tables is validated on the CPU."""

    checkpoint_steps: Count = 500
    """Steps between checkpoints inside an epoch; there is one at the end of every epoch in any case."""

    def __post_init__(self) -> None:
        """Check what can be checked without data."""
        # torch comes with them, which the help of commands does without
        from rf_training.objective import LOSSES, SAMPLERS

        check_fields(self, "train.")
        LOSSES.find(self.loss, "train.loss")
        SAMPLERS.find(self.sampler, "train.sampler")
        for name, objective in self.OF_OBJECTIVE.items():
            changed = getattr(self, name) != type(self).__dataclass_fields__[name].default
            if changed and self.objective != objective:
                raise ConfigError(
                    f"train.{name}={getattr(self, name)} needs train.objective={objective}, which is {self.objective}"
                )
        if self.event_weights and self.weigh_by != "declared":
            raise ConfigError(
                f"train.event_weights has no effect with train.weigh_by={self.weigh_by}; leave one of the two out"
            )
        if self.final_learning_rate > self.learning_rate:
            raise ConfigError(
                f"train.final_learning_rate={self.final_learning_rate} must not exceed train.learning_rate={self.learning_rate}"
            )

    def weights(self, spec: "FeatureSpec") -> EventWeights | None:
        """Return the weights of targets on a dataset with these features; None for none.

        Raises:
            ConfigError: ``weigh_by`` names no column that could weigh.
        """
        if self.weigh_by == "equal":
            return None
        if self.weigh_by != "declared":
            return EventWeights.of(self.weigh_by, f"train.weigh_by={self.weigh_by}")
        if not self.event_weights:
            return spec.weights
        declared = {} if spec.weights is None else dict(spec.weights.types)
        return EventWeights.of({**declared, **self.event_weights}, "train.event_weights")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A named, complete configuration of a run."""

    name: str
    """Name that `rf train --recipe` takes."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The model."""

    train: TrainConfig = field(default_factory=TrainConfig)
    """Its training."""

    sharding: ShardingConfig = field(default_factory=ShardingConfig)
    """Sharding of its embedding tables over processes."""
