"""The grids that come with the platform."""

from rf_platform.errors import NotFoundError
from rf_training.experiments.grid import Group, known
from rf_training.model.blocks import TOWERS
from rf_training.model.fusion import FUSIONS
from rf_training.rerank.kinds import RERANKERS
from rf_training.rerank.ranker import DOT

_SAMPLED = {"train.objective": "sampled", "train.label_smoothing": "0"}
_FULL = {"train.objective": "full", "train.hard_negatives": "0"}


def _values(setting: str, *values: str) -> dict[str, dict[str, str]]:
    return {value: {setting: value} for value in values}


def _switch(setting: str, off: str, on: str) -> dict[str, dict[str, str]]:
    return {"off": {setting: off}, "on": {setting: on}}


def _grid(*groups: Group) -> dict[str, Group]:
    return {group.name: group for group in groups}


TABLE3 = _grid(
    Group(name="history", title="History length", variants=_values("model.max_history", "5", "10", "15", "20", "25")),
    Group(
        name="fusion",
        title="Fusion of features",
        variants=_values("model.fusion", *FUSIONS),
    ),
    Group(name="uniformity", title="Explicit uniformity term", variants=_switch("train.uniformity_weight", "0", "0.1")),
    Group(
        name="tables",
        title="Embedding tables",
        variants={"shared": {"model.share_domains": "true"}, "separate": {"model.share_domains": "false"}},
    ),
    Group(name="batch", title="Batch size, in windows", variants=_values("train.batch_size", "256", "512")),
    Group(
        name="feature_dim",
        title="Width of feature embeddings",
        variants=_values("model.feature_dim", "8", "16", "32", "64"),
    ),
    Group(name="dim", title="Width of tokens and output", variants=_values("model.dim", "64", "256", "512", "1024")),
)
"""Table 3 of the paper with its values (R18, appendix E), and the fusions of R3; ``dim`` last because its widest is by far the
dearest."""

OBJECTIVE = _grid(
    Group(name="objective", title="Objective", variants={"sampled": _SAMPLED, "full": _FULL}),
    Group(name="positions", title="Training positions", variants=_values("train.positions", "all", "one")),
    Group(
        name="negatives",
        title="Uniform negatives a step",
        fixed=_SAMPLED,
        variants=_values("train.uniform_negatives", "0", "100", "1000", "4000"),
    ),
    Group(
        name="hard_negatives",
        title="Concentration of hard negatives",
        fixed=_SAMPLED,
        variants=_values("train.hard_negatives", "0", "0.1", "0.5"),
    ),
    Group(
        name="label_smoothing",
        title="Label smoothing",
        fixed=_FULL,
        variants=_values("train.label_smoothing", "0", "0.05", "0.1"),
    ),
    Group(name="item_bias", title="Item bias", variants=_switch("model.item_bias", "false", "true")),
    Group(
        name="temperature", title="Temperature", variants=_values("train.temperature", "0.05", "0.07", "0.1", "0.15")
    ),
    Group(name="norm", title="Penalty on norms", variants=_values("train.norm_penalty", "0", "1e-5", "1e-3")),
    Group(
        name="variance", title="Penalty on low variance", variants=_values("train.variance_penalty", "0", "0.1", "1")
    ),
    Group(
        name="composition", title="Composition of batches", variants=_values("train.composition", "random", "balanced")
    ),
    Group(name="optimizer", title="Optimiser", variants=_values("train.optimizer", "adamw", "muon")),
    Group(
        name="averaging",
        title="Decay of averaged weights",
        variants=_values("train.ema_decay", "0", "0.99", "0.995", "0.999"),
    ),
)
"""Objective and optimisation (R9, R10, R12, R14, R15)."""

WARM_COLD = _grid(
    Group(
        name="item_id",
        title="Item id as a feature, by its noise",
        variants={"no id": {"model.item_id": "false"}}
        | {noise: {"model.item_id": "true", "model.item_id_noise": noise} for noise in ("0", "0.05", "0.25", "0.5")},
    ),
    Group(
        name="feature_noise",
        title="Noise on other features",
        variants=_values("model.feature_noise", "0", "0.05", "0.2"),
    ),
)
"""Trade-offs between warm and cold items (R11); meant for a dataset with cold targets."""

ARCHITECTURE = _grid(
    Group(
        name="tower",
        title="User tower",
        # In a layout that the tower can read, whatever the recipe's.
        variants={
            kind: {"model.tower": kind} | ({} if "cls" in tower.layouts else {"model.layout": tower.layouts[0]})
            for kind, tower in TOWERS.items()
        },
    ),
    Group(name="layout", title="Layout of the sequence", variants=_values("model.layout", "cls", "prefix", "side")),
    Group(name="context", title="Context of interactions", variants=_switch("model.context", "false", "true")),
    Group(name="bags", title="Pooling of bags", variants=_values("model.bag_pooling", "mean", "sum", "attention")),
)
"""Kind of user tower, shape of its sequence, what its interactions carry (RQ2 of the paper), and bags (R1, R6, R7, R8)."""

_LEVELS = {"none": {"model.semantic_ids": "0"}} | {
    f"{levels} level{'s'[: levels > 1]}": {"model.semantic_ids": str(levels)} for levels in (1, 2)
}
CONTENT = _grid(
    Group(name="semantic_ids", title="Levels of semantic ids, beside the item id", variants=_LEVELS),
    Group(
        name="semantic_only",
        title="Levels of semantic ids, without the item id",
        fixed={"model.item_id": "false"},
        variants=_LEVELS,
    ),
)
"""Semantic ids of items, all levels in the base; for a dataset that has them (the tag ``semantic_ids`` of its service)."""

GOALS = _grid(
    Group(name="goals", title="Goals", variants=_switch("model.goals", "false", "true")),
    Group(
        name="goal_share",
        title="Targets with weights over goals of their own",
        fixed={"model.goals": "true"},
        variants=_values("train.goal_share", "0.25", "0.5", "0.75", "0.9"),
    ),
    Group(name="weigh_by", title="Weights of targets", variants=_values("train.weigh_by", "declared", "equal")),
)
"""Types of events as goals of one user tower, and as weights of targets; for a dataset with the types in its history."""

RERANKING = _grid(
    Group(
        name="rankers",
        title="Kind of re-ranker",
        variants={kind: {"rerank.kind": kind} for kind in RERANKERS if kind != DOT},
    ),
    Group(
        name="links",
        title="Links",
        variants={f"{links} links": {"rerank.links": links} for links in ("4", "8", "16", "32")},
    ),
    Group(name="weights", title="Link weights of an item", variants=_values("rerank.weights", "softmax", "silu")),
    Group(
        name="scorer",
        title="Width of the scorer",
        variants={
            "1 number, hidden 1": {"rerank.width": "1", "rerank.hidden": "1"},
            "32 numbers, hidden 32": {"rerank.width": "32", "rerank.hidden": "32"},
            "64 numbers, hidden 64": {"rerank.width": "64", "rerank.hidden": "64"},
        },
    ),
    Group(
        name="dropout",
        title="Dropout",
        variants={f"dropout {rate}": {"rerank.dropout": rate} for rate in ("0.1", "0.3")},
    ),
    Group(name="loss", title="Loss", variants=_values("train.loss", "softmax", "bce")),
    Group(
        name="events",
        title="Training events that the towers know",
        variants={
            "own event left out": {"train.leave_out": "true"},
            "as trained": {"train.leave_out": "false"},
            "towers with dropout": {"train.leave_out": "false", "train.tower_dropout": "true"},
            "half of the ids unknown": {"train.leave_out": "false", "train.unknown": "0.5"},
        },
    ),
    Group(
        name="places",
        title="Training positions of a user",
        variants={f"{places} latest": {"train.places": places} for places in ("1", "2", "4")},
    ),
    Group(
        name="negatives",
        title="Negatives",
        variants={
            "hard and uniform": {"train.hard": "48", "train.uniform": "16"},
            "hard only": {"train.hard": "64", "train.uniform": "0"},
            "uniform only": {"train.hard": "0", "train.uniform": "64"},
        },
    ),
)
"""The choices that the paper of LIME leaves open, around a recipe of a re-ranker."""

GRIDS = {
    "table3": TABLE3,
    "objective": OBJECTIVE,
    "warm-cold": WARM_COLD,
    "architecture": ARCHITECTURE,
    "content": CONTENT,
    "goals": GOALS,
    "all": {**OBJECTIVE, **WARM_COLD, **ARCHITECTURE, **CONTENT, **GOALS, **TABLE3},
}
"""By the name that `--grid` takes."""


def get_grid(name: str) -> dict[str, Group]:
    """Return a grid of the platform.

    Raises:
        NotFoundError: there is none of that name.
    """
    try:
        return GRIDS[known(name, GRIDS, "grid")]
    except NotFoundError as error:
        raise NotFoundError(f"{error}; a file of your own ends in .yaml") from None
