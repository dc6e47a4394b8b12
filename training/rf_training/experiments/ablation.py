"""An ablation from its plan to its tables and its plot."""

import json
from collections.abc import Mapping
from pathlib import Path

from rf_platform.bundle import check_name
from rf_platform.dataset.run_dataset import open_dataset
from rf_platform.errors import CorruptError, RfError
from rf_platform.files import replace_text
from rf_platform.registry import Registry
from rf_platform.settings import Settings
from rf_training.evaluation import Split
from rf_training.experiments.chart import draw
from rf_training.experiments.plan import Plan
from rf_training.experiments.results import AblationResult, Measured, Measurements, build_result
from rf_training.experiments.runs import CellRuns, train_runs
from rf_training.experiments.tables import csv_text, markdown


class Ablation:
    """A plan in a workspace: trains what is missing and writes ``table.md``, ``table.csv``, ``results.json``, ``plot.png`` and
    ``plot.svg``; those of the test split lie in a directory of their own, ``test/``.
    """

    def __init__(self, settings: Settings, plan: Plan, split: Split) -> None:
        self.settings, self.plan, self.split = settings, plan, split
        self.directory = ablation_directory(settings, plan.name)
        self.output = self.directory if split is Split.VALIDATION else self.directory / split.label
        registry = Registry.of(settings)
        dataset = open_dataset(registry, plan.dataset)
        if dataset.fingerprint != plan.fingerprint:
            raise CorruptError(
                f"ablation '{plan.name}' is on dataset '{plan.dataset}' with fingerprint {plan.fingerprint[:12]}, which now has "
                f"{dataset.fingerprint[:12]}; give the new one another name with --name"
            )
        self._measurements = Measurements(dataset, split)
        self._measured: dict[str, Measured] = {}

    def train(self, selected: Plan) -> dict[str, str]:
        """Train the cells of a part of the plan; returns why some failed, by cell.

        Raises:
            RunError: interrupted.
        """
        return train_runs(self.settings, selected, self._early)

    def _early(self) -> None:
        self.write_tables(self.result({}))

    def result(self, failed: Mapping[str, str]) -> AblationResult:
        """Measure what is trained and compute the result.

        Args:
            failed: by cell: why it failed just now.
        """
        missing: dict[str, str] = {}
        runs = CellRuns(self.settings, self.plan.dataset).find_all(self.plan.cells)
        for name in self.plan.cells:
            run = runs.get(name)
            if run is None:
                missing[name] = failed.get(name, "not trained yet")
            elif run.status != "completed":
                missing[name] = failed.get(name) or (
                    f"failed: {run.error}" if run.error else "training, or stopped in it"
                )
            elif name not in self._measured:
                try:
                    self._measured[name] = self._measurements.measure(run)
                except RfError as error:
                    missing[name] = f"cannot be ranked: {error}"
        return build_result(self.plan, self._measurements.cases, self._measured, missing)

    def write(self, result: AblationResult) -> list[Path]:
        """Write all files; returns them."""
        return [*self.write_tables(result), *draw(result, self.output / "plot.png")]

    def write_tables(self, result: AblationResult) -> list[Path]:
        """Write all files but the plot; returns them."""
        texts = {
            "table.md": markdown(result),
            "table.csv": csv_text(result),
            "results.json": json.dumps(result.to_dict(), indent=2) + "\n",
        }
        for name, text in texts.items():
            replace_text(self.output / name, text)  # another process may write the same table
        return [self.output / name for name in texts]


def ablation_directory(settings: Settings, name: str) -> Path:
    """Return where an ablation of that name lies.

    Raises:
        UsageError: the name is not usable.
    """
    return settings.workspace.root / "ablations" / check_name("ablation", name)
