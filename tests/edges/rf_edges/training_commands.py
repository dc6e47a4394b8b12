"""The commands of the training layer."""

from rf_edges.edge import Edge

IMPORTS = ("import", "rf_training.")
_STEPS = "--set train.checkpoint_steps=1 --set train.batch_size=64"
SMALL = f"--set model.dim=16 --set model.layers=1 {_STEPS}"
RERANK = "--set train.epochs=1 --set train.views=1"
_ONE = "--set train.epochs=1"
_RUNS = ("runs", "runs/*", "registry.db*")
_FOUND = ("found.md",)
_DATASET = "datasets/tiny-v1/encoder/genre.parquet"

EDGES = (
    Edge(
        name="train",
        arguments=f"--recipe demo --name new {_ONE} {SMALL}",
        reads=(_DATASET,),
        writes=_RUNS,
        needs_room=True,
        moments=(
            IMPORTS,
            ("open", "tfevents"),
            ("open", "state.pt"),
            ("os.rename", "step-"),
            ("open", "weights.safetensors"),
            ("open", "history.jsonl"),
            ("os.rename", "metrics.json"),
        ),
        after="train --resume --name new",
        pause=("open", "state.pt"),
        refused=r"run 'new' is being trained by process \d+ \(rf train .*\); wait until it has ended",
    ),
    Edge(
        name="train",
        variant="--from",
        arguments=f"--from second --name grown {_ONE} {_STEPS}",
        reads=("bundles/second/model/weights.safetensors",),
        writes=_RUNS,
        moments=(("open", ".starting-"), ("open", "state.pt")),
        after="train --resume --name grown",
        pause=("open", ".starting-"),
        refused=r"run 'grown' is being trained by process \d+",
    ),
    Edge(
        name="train",
        variant="--resume",
        arguments="--resume --name begun",
        reads=("runs/begun/checkpoints/step-00000002/state.pt",),
        writes=_RUNS,
        moments=(("open", "state.pt"), ("os.rename", "step-")),
        pause=("open", "tfevents"),
        refused=r"run 'begun' is being trained by process \d+ \(rf train --resume --name begun\)",
    ),
    Edge(
        name="report",
        arguments="done",
        reads=("runs/done/history.jsonl",),
        writes=_RUNS,
        moments=(IMPORTS, ("open", ".report"), ("os.rename", "report.html")),
    ),
    Edge(
        name="compare",
        arguments="done --markdown {home}/found.md",
        reads=("runs/done/best/config.json",),
        writes=(*_FOUND, *_RUNS),
        moments=(IMPORTS, ("os.rename", "found.md")),
    ),
    Edge(
        name="ablate",
        arguments=f"--grid {{home}}/grid.yaml --recipe demo {_ONE} {SMALL}",
        reads=("grid.yaml",),
        writes=("ablations", "ablations/*", *_RUNS),
        moments=(IMPORTS, ("open", "state.pt"), ("os.rename", "table.md")),
        pause=("open", "state.pt"),
        waits=True,
    ),
    Edge(
        name="tune",
        arguments=f"--recipe demo --name found --trials 1 --space train.learning_rate=0.001,0.002 {_ONE} {SMALL}",
        reads=(_DATASET,),
        writes=("tunings", "tunings/*", *_RUNS),
        moments=(IMPORTS, ("open", "state.pt"), ("os.rename", "recipe.yaml")),
        pause=("open", "state.pt"),
    ),
    Edge(
        name="rerank train",
        arguments=f"--run done --name other {RERANK}",
        reads=("runs/done/best/weights.safetensors",),
        writes=_RUNS,
        moments=(IMPORTS, ("open", ".training-"), ("os.rename", "rerankers/other")),
        after=f"rerank train --run done --name other --replace {RERANK}",
        pause=("open", ".training-"),
        refused=r"the re-rankers of run 'done' are being trained by process \d+",
    ),
    Edge(
        name="rerank use",
        arguments="lime-mha --run done",
        reads=("runs/done/rerankers/lime-mha/training.json",),
        writes=_RUNS,
        moments=(IMPORTS, ("os.rename", "reranker")),
    ),
    Edge(
        name="rerank compare",
        arguments="--run done --markdown {home}/found.md",
        reads=("runs/done/rerankers/lime-mha/weights.safetensors",),
        writes=(*_FOUND, *_RUNS),
        moments=(IMPORTS, ("os.rename", "found.md")),
    ),
    Edge(
        name="rerank experiment",
        arguments=f"--run done --group loss:bce {RERANK}",
        reads=("runs/done/best/weights.safetensors",),
        writes=_RUNS,
        moments=(IMPORTS, ("os.rename", "cells"), ("os.rename", "table.md")),
        pause=("os.rename", "cells"),
        waits=True,
    ),
)
"""Every command of the package ``rf_training`` but `rf dataset`, which is among those of the platform."""
