"""Source bundle of a warm start."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rf_platform.bundle import BundleManifest
from rf_platform.bundle.files import ENCODER, MODEL, SPEC
from rf_platform.errors import NotFoundError
from rf_platform.features.encode import FeatureEncoder
from rf_platform.features.lineage import FIRST_VERSION, LINEAGE, Ancestor, Lineage
from rf_platform.features.spec import FeatureSpec
from rf_platform.registry import BundleRecord, Registry, check_bundle


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
    """
    record = _bundle(registry, name)
    manifest: BundleManifest = check_bundle(record)
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
        return registry.bundle(name)
    except NotFoundError as error:
        if any(run.name == name for run in registry.runs()):
            raise NotFoundError(
                f"--from takes a bundle, and '{name}' is a run: `rf index build {name}` makes a bundle of it"
            ) from error
        raise
