"""Initial state of a warm-started run: id maps, lineage and weights in its directory before the first step."""

from dataclasses import dataclass
from pathlib import Path

import torch

from rf_platform.cli.console import err_console, warn
from rf_platform.dataset import Dataset
from rf_platform.dataset.run_dataset import ENCODER, open_with_ids_of
from rf_platform.errors import CorruptError
from rf_platform.features.growth import Growth, grow
from rf_platform.features.lineage import LINEAGE, Lineage
from rf_platform.features.lineage_tables import lineage_tables
from rf_training.checkpoint import last_checkpoint
from rf_training.model.config import ModelConfig
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.storage import read_weights, save_weights
from rf_training.trainer import INITIAL
from rf_training.warm_start.source import SourceBundle
from rf_training.warm_start.weights import carry_over


@dataclass(frozen=True, kw_only=True, eq=False)
class WarmStart:
    """A bundle's id maps, grown to a newer dataset; nothing is written yet."""

    source: SourceBundle
    dataset: Dataset
    """As it was built, with id maps of its own."""
    growth: Growth
    lineage: Lineage

    @classmethod
    def of(cls, source: SourceBundle, dataset: Dataset) -> "WarmStart":
        """Grow the bundle's id maps to a dataset version.

        Raises:
            ConfigError: a feature or a domain means something else in the dataset.
        """
        growth = grow(source.encoder, dataset.encoder)
        lineage = Lineage.of(growth, source.ancestor, dataset=dataset.name, fingerprint=dataset.fingerprint)
        return cls(source=source, dataset=dataset, growth=growth, lineage=lineage)

    def save(self, directory: Path, model: ModelConfig) -> None:
        """Write id maps, their lineage and the weights to start from into a run's directory.

        Raises:
            CorruptError: the bundle's weights do not fit its configuration.
        """
        self.growth.encoder.save(directory / ENCODER)
        self.lineage.save(directory / LINEAGE)
        weights = read_weights(self.source.model / "weights.pt", model)
        with torch.device("meta"):  # shapes and names are enough
            before = RetrievalFormer(model, self.source.encoder)
            after = RetrievalFormer(model, self.growth.encoder)
        sizes = {name: weight.shape for name, weight in before.state_dict().items()}
        if sizes != {name: weight.shape for name, weight in weights.items()}:
            raise CorruptError(
                f"the weights in {self.source.model} do not fit the recipe of run '{self.source.ancestor.run}' and the "
                f"vocabularies of bundle '{self.source.ancestor.bundle}'; go on from another bundle"
            )
        save_weights(directory / INITIAL, model, carry_over(weights, before, after))

    def tell(self, directory: Path) -> None:
        """Show what became of every id map, and warn of cold targets that are none to a model trained before.

        Args:
            directory: of the run, after :meth:`save`.
        """
        for part in lineage_tables(self.lineage):
            err_console().print(part, highlight=False)
        cold = sum(split["cold"] for split in self.dataset.targets.values())
        known = cold - sum(split["cold"] for split in open_with_ids_of(directory, self.dataset.path).targets.values())
        if known:
            warn(
                f"{known:,} of the {cold:,} cold targets of dataset '{self.dataset.name}' are items that "
                f"bundle '{self.source.ancestor.bundle}' was trained on: figures on cold items will be too good"
            )


def check_warm_start(directory: Path) -> None:
    """Check that a run that goes on from a bundle still has the weights it starts from, if it has no checkpoint yet.

    Raises:
        CorruptError: they are gone; the run would start from random ones.
    """
    continued, begun = (directory / LINEAGE).exists(), last_checkpoint(directory) is not None
    if continued and not begun and not (directory / INITIAL / "weights.pt").exists():
        raise CorruptError(
            f"run '{directory.name}' goes on from a bundle and has no checkpoint yet, and {directory / INITIAL} is gone; start "
            f"it again with `rf train --from`"
        )
