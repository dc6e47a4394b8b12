"""One process of a benchmark: builds rigs from a plan, times them in turns, and writes what it found.

Started by :mod:`rf_bench.train.processes`; several of them train together.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from rf_bench.train.rig import Rig, Tables
from rf_platform.dataset import Dataset
from rf_platform.peak_memory import peak_bytes
from rf_training.config import Recipe
from rf_training.distributed.process_group import World

_RECIPE = TypeAdapter(Recipe)


@dataclass(frozen=True, kw_only=True)
class RigPlan:
    """One training to time."""

    name: str
    recipe: Recipe
    tables: Tables = "torchrec"
    whole_catalog: bool = False


@dataclass(frozen=True, kw_only=True)
class WorkPlan:
    """Work of the processes of one launch; the same for all."""

    dataset: Path
    rigs: tuple[RigPlan, ...]
    """Timed in turns, so that whatever else the machine does meets all of them."""
    rounds: int
    steps: int
    """Steps of a rig in a round."""
    warmup: int
    """Steps before the first round, which are not timed."""
    profiled: int = 0
    """Steps at the end under the profiler, for communication."""
    threads: int

    def to_json(self) -> str:
        """Return the plan as JSON."""
        return json.dumps({**asdict(self), "dataset": str(self.dataset)})

    @classmethod
    def from_json(cls, text: str) -> "WorkPlan":
        """Rebuild a plan from :meth:`to_json`."""
        data = json.loads(text)
        rigs = tuple(RigPlan(**{**rig, "recipe": _RECIPE.validate_python(rig["recipe"])}) for rig in data["rigs"])
        return cls(**{**data, "dataset": Path(data["dataset"]), "rigs": rigs})


def work(plan: WorkPlan, world: World) -> dict[str, Any] | None:
    """Time the rigs of a plan; the result is on rank 0, None on the others."""
    torch.set_num_threads(plan.threads)
    dataset = Dataset.open(plan.dataset)
    rigs = {
        rig.name: Rig(dataset, rig.recipe, world, tables=rig.tables, whole_catalog=rig.whole_catalog)
        for rig in plan.rigs
    }
    for rig in rigs.values():
        rig.run(plan.warmup)
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in rigs}
    for _ in range(plan.rounds):
        for name, rig in rigs.items():
            rounds[name].append(asdict(rig.run(plan.steps)))
    own = {
        "rounds": rounds,
        "peak_bytes": peak_bytes(),
        "communication": {n: rig.communication(plan.profiled) for n, rig in rigs.items()} if plan.profiled else {},
        "tables": {name: rig.table_bytes() for name, rig in rigs.items()},
    }
    ranks = world.gather_plain(own)
    return {"ranks": ranks} if world.main else None


def main(plan: Path, result: Path) -> None:
    """Read a plan, work it off with the other processes, and write the result on rank 0."""
    world = World.join()
    try:
        found = work(WorkPlan.from_json(plan.read_text()), world)
        if found is not None:
            result.write_text(json.dumps(found))
    finally:
        world.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
