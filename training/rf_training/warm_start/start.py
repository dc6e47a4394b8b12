"""Initial state of a warm-started run: source bundle, recipe, id maps, lineage and weights, before the first step."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from rf_platform.bundle import BundleManifest
from rf_platform.bundle.files import ENCODER, MODEL, SPEC
from rf_platform.cli.console import err_console, warn
from rf_platform.dataset import Dataset
from rf_platform.dataset.run_dataset import open_with_ids_of
from rf_platform.errors import CorruptError, NotFoundError, UsageError
from rf_platform.features.encode import FeatureEncoder
from rf_platform.features.growth import Growth, grow
from rf_platform.features.lineage import FIRST_VERSION, LINEAGE, Ancestor, Lineage, lineage_tables
from rf_platform.features.spec import FeatureSpec
from rf_platform.registry import BundleRecord, Registry, check_bundle, fetched
from rf_training.checkpoint import last_checkpoint
from rf_training.config import Recipe
from rf_training.model.config import ModelConfig
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.storage import read_weights, save_weights
from rf_training.optimizer import table_rate
from rf_training.recipes import override
from rf_training.tensors import weights_file
from rf_training.trainer import INITIAL
from rf_training.warm_start.weights import carry_over


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceBundle:
    """Everything of a bundle that a later training needs."""

    model: Path
    """Directory of its weights."""
    encoder: FeatureEncoder
    config: dict[str, Any]
    """Recipe of its run, as plain data."""
    ancestor: Ancestor
    """Entry in the lineage of later runs."""


def open_source(registry: Registry, name: str) -> SourceBundle:
    """Open a bundle to go on from, after holding every file against its checksum.

    Raises:
        NotFoundError: there is no such bundle, or its directory is gone.
        CorruptError: a file of it is damaged.
        UntrustedError: it has to be signed, and is not.
    """
    record = _bundle(registry, name)
    manifest: BundleManifest = check_bundle(record, signed_by=registry.signed_by)
    encoder = FeatureEncoder.load(FeatureSpec.load(record.path / SPEC), record.path / ENCODER)
    told = record.path / LINEAGE
    return SourceBundle(
        model=record.path / MODEL,
        encoder=encoder,
        config=registry.run(record.run).config,
        ancestor=Ancestor(
            bundle=record.name,
            manifest_sha256=record.manifest_sha256,
            run=record.run,
            dataset_fingerprint=manifest.dataset_fingerprint,
            version=Lineage.load(told, encoder).version if told.exists() else FIRST_VERSION,
            encoder_hash=encoder.hash,
        ),
    )


def _bundle(registry: Registry, name: str) -> BundleRecord:
    try:
        return fetched(registry, registry.bundle(name))
    except NotFoundError as error:
        if any(run.name == name for run in registry.runs()):
            raise NotFoundError(
                f"--from takes a bundle, and '{name}' is a run: `rf index build {name}` makes a bundle of it"
            ) from error
        raise


FREE = ("dropout", "item_id_noise", "feature_noise")
"""Settings of the model that act in training only: its weights fit whatever they are."""
SHARE_OF_EPOCHS, WARMUP_EPOCHS = 1 / 3, 0.25
"""Epochs, as a share of the first training's, and the longest warm-up."""
SHARE_OF_TABLE_RATE = 1 / 2
"""Peak of the learning rate of sharded tables, as a share of the first training's."""


def continued_recipe(first: Recipe, changes: Iterable[str]) -> Recipe:
    """Return the recipe to go on with.

    There are fewer epochs, for most is learned already, and the warm-up is short: it is there for the optimiser's running means,
    which start anew, not for weights that are still random. The peak of the learning rate stays: on MovieLens-100K with a fifth
    of the events new, two epochs with the whole peak came to a validation NDCG@20 of .144, with half of it to .140 and with a
    quarter to .139, after .136 at the start; five from nothing came to .141 (one seed). That of sharded tables is lower: row-wise
    Adagrad has forgotten how far a row has come.

    Args:
        first: what the bundle's run was trained with.
        changes: as `rf train --set` takes them.

    Raises:
        UsageError: a change is of something that the weights depend on.
    """
    train, tables = first.train, first.sharding
    shorter = replace(
        train,
        epochs=max(1, math.ceil(train.epochs * SHARE_OF_EPOCHS)),
        warmup_epochs=min(train.warmup_epochs, WARMUP_EPOCHS),
    )
    if tables.optimizer == "rowwise_adagrad":
        peak = table_rate(train, tables) * train.learning_rate
        tables = replace(tables, learning_rate=peak * SHARE_OF_TABLE_RATE)
    changed = override(replace(first, train=shorter, sharding=tables), changes)
    for name in (f.name for f in fields(first.model) if f.name not in FREE):
        was, now = getattr(first.model, name), getattr(changed.model, name)
        if was != now:
            free = ", ".join(f"model.{each}" for each in FREE)
            raise UsageError(
                f"--set model.{name}={_typed(now)}: the weights to go on from are of a model with model.{name}={_typed(was)}; "
                f"leave it, or train a new model without --from (of the model, only {free} may change)"
            )
    return changed


def _typed(value: object) -> str:
    """Write a value as `--set` takes it."""
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


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
        weights = read_weights(self.source.model, model)
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
        """Print the growth of the id maps, and warn of cold targets that the source model knows.

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
    if continued and not begun and not weights_file(directory / INITIAL).exists():
        raise CorruptError(
            f"run '{directory.name}' goes on from a bundle and has no checkpoint yet, and {directory / INITIAL} is gone; start "
            f"it again with `rf train --from`"
        )
