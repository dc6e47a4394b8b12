"""What LIME's paper leaves open, as a grid of settings around one recipe."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rf_platform.errors import UsageError
from rf_training.rerank.kinds import RERANKERS
from rf_training.rerank.ranker import DOT

GRID: dict[str, dict[str, Mapping[str, object]]] = {
    "rankers": {kind: {"rerank.kind": kind} for kind in RERANKERS if kind != DOT},
    "links": {f"{links} links": {"rerank.links": links} for links in (4, 8, 16, 32)},
    "weights": {name: {"rerank.weights": name} for name in ("softmax", "silu")},
    "scorer": {
        "1 number, hidden 1": {"rerank.width": 1, "rerank.hidden": 1},
        "32 numbers, hidden 32": {"rerank.width": 32, "rerank.hidden": 32},
        "64 numbers, hidden 64": {"rerank.width": 64, "rerank.hidden": 64},
    },
    "dropout": {f"dropout {rate}": {"rerank.dropout": rate} for rate in (0.1, 0.3)},
    "loss": {name: {"train.loss": name} for name in ("softmax", "bce")},
    "events": {
        "own event left out": {"train.leave_out": True},
        "as trained": {"train.leave_out": False},
        "towers with dropout": {"train.leave_out": False, "train.tower_dropout": True},
        "half of the ids unknown": {"train.leave_out": False, "train.unknown": 0.5},
    },
    "places": {f"{places} latest": {"train.places": places} for places in (1, 2, 4)},
    "negatives": {
        "hard and uniform": {"train.hard": 48, "train.uniform": 16},
        "hard only": {"train.hard": 64, "train.uniform": 0},
        "uniform only": {"train.hard": 0, "train.uniform": 64},
    },
}
"""Groups, their variants, and what each sets."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training of an experiment."""

    group: str
    variant: str
    changes: tuple[str, ...]
    """As `--set` takes them."""


def cells(groups: Iterable[str]) -> list[Cell]:
    """Return the cells of some groups, all of them around the same recipe.

    Args:
        groups: names in :data:`GRID`; none for all.

    Raises:
        UsageError: there is no such group.
    """
    chosen = list(groups) or list(GRID)
    if unknown := [name for name in chosen if name not in GRID]:
        raise UsageError(f"--group {unknown[0]}: no such group; known are {', '.join(GRID)}")
    return [
        Cell(group=group, variant=variant, changes=tuple(f"{k}={v}" for k, v in settings.items()))
        for group in chosen
        for variant, settings in GRID[group].items()
    ]
