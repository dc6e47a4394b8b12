"""Names, places and one-line summaries of all commands, in the order ``rf --help`` shows them."""

from importlib.util import find_spec
from typing import NamedTuple


class CommandEntry(NamedTuple):
    """A command: its module and its summary."""

    target: str
    """``module:attribute`` of a ``typer.Typer`` application."""
    summary: str
    remedy: str | None = None
    """Installation of a command that does not come with the platform."""

    @property
    def installed(self) -> bool:
        """Whether the command's package is there; finding out imports nothing."""
        return self.remedy is None or find_spec(self.target.partition(".")[0]) is not None


COMMANDS: dict[str, CommandEntry] = {
    "demo": CommandEntry(
        "rf_serving.commands.demo:app", "Go through everything on MovieLens-100K, from features to gRPC."
    ),
    "data": CommandEntry("rf_platform.data.commands:app", "Import interactions, items and users."),
    "features": CommandEntry("rf_platform.features.commands:app", "Apply, materialise and show feature definitions."),
    "dataset": CommandEntry("rf_training.commands.dataset:app", "Build and show point-in-time training data."),
    "train": CommandEntry("rf_training.commands.train:app", "Train a two-tower model on a dataset version."),
    "evaluate": CommandEntry(
        "rf_serving.commands.evaluate:app", "Rank the full catalog, exactly and through the index, beside baselines."
    ),
    "report": CommandEntry("rf_training.commands.report:app", "Write a run's report: one HTML page and PNG charts."),
    "compare": CommandEntry("rf_training.commands.compare:app", "Rank a run's model beside any of the baselines."),
    "ablate": CommandEntry("rf_training.commands.ablate:app", "Vary one thing at a time and show what it does."),
    "tune": CommandEntry("rf_training.commands.tune:app", "Search for better settings of a recipe, on validation."),
    "rerank": CommandEntry("rf_training.commands.rerank:app", "Train and compare re-rankers on a run's retriever."),
    "index": CommandEntry(
        "rf_serving.commands.index:app", "Build a servable bundle: towers, vocabularies, vectors, index."
    ),
    "refresh": CommandEntry(
        "rf_serving.commands.refresh:app", "From new data to a promoted bundle in one line, if it is not worse."
    ),
    "promote": CommandEntry("rf_serving.commands.deployment:promote_app", "Make a bundle the served one."),
    "rollback": CommandEntry("rf_serving.commands.deployment:rollback_app", "Go back to the bundle served before."),
    "shadow": CommandEntry(
        "rf_serving.commands.deployment:shadow_app", "Let a bundle answer a share of the requests unseen."
    ),
    "experiment": CommandEntry(
        "rf_serving.commands.experiment:app", "Compare bundles by what users do: splits, interleaving, estimates."
    ),
    "policy": CommandEntry("rf_serving.commands.policy:app", "Check, apply and show the rules of each placement."),
    "runs": CommandEntry("rf_platform.registry.run_commands:app", "List, show, compare and remove training runs."),
    "gc": CommandEntry(
        "rf_serving.commands.gc:app",
        "Remove bundles, runs and datasets that are neither in use nor recent.",
    ),
    "bundles": CommandEntry("rf_platform.registry.commands:app", "List bundles and deployments, verify checksums."),
    "bundle": CommandEntry("rf_platform.bundle.commands:app", "Sign bundles and verify their signatures."),
    "store": CommandEntry(
        "rf_platform.object_store.commands:app", "Push and pull bundles, datasets, runs and logs: S3 and others."
    ),
    "serve": CommandEntry("rf_serving.commands.serve:app", "Answer gRPC Retrieve calls."),
    "console": CommandEntry(
        "rf_console.command:app", "Open the platform in the browser: catalog, users, runs, deployments."
    ),
    "health": CommandEntry("rf_serving.commands.health:app", "Ask a running server whether it serves."),
    "deployment": CommandEntry("rf_serving.commands.deployment:deployment_app", "Show what a running server serves."),
    "skew": CommandEntry("rf_platform.skew.commands:app", "Hold what was served against what training sees."),
    "token": CommandEntry("rf_serving.commands.token:app", "Create, list and remove the tokens that callers need."),
    "events": CommandEntry("rf_serving.commands.events:app", "Record what users do, and look after the log of it."),
    "items": CommandEntry("rf_serving.commands.items:app", "Add, change, delete and show items while they are served."),
    "query": CommandEntry("rf_serving.commands.query:app", "Ask a running server for recommendations, with titles."),
    "batch": CommandEntry("rf_serving.commands.batch:app", "Write the best items of all users to a Parquet file."),
    "vectors": CommandEntry("rf_serving.commands.vectors:app", "Write the vectors of items and users to files."),
    "bench": CommandEntry(
        "rf_bench.commands:app",
        "Measure how fast it is, each benchmark with ratios in one run.",
        "benchmarks belong to the development set; run `make install` in a checkout of the repository",
    ),
    "doctor": CommandEntry(
        "rf_platform.doctor.commands:app", "Check the installation, the stores and the served bundle."
    ),
}
