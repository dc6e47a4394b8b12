"""The history of a run's id maps: which bundle they go on from, and what became of every value.

Written beside the id maps, in the run and in its bundles. A model trained from nothing has none: its id maps are version 1.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rf_platform.errors import CorruptError
from rf_platform.failures import reading
from rf_platform.features.encode import FeatureEncoder, NumericStats
from rf_platform.features.growth import DomainGrowth, Growth, StatisticDrift

LINEAGE = "lineage.json"
"""File name, in a run's directory and in a bundle."""
FIRST_VERSION = 1
"""Version of id maps that go on from none."""


@dataclass(frozen=True, kw_only=True)
class Ancestor:
    """The bundle that id maps go on from."""

    bundle: str
    manifest_sha256: str
    """Stands for the whole content of the bundle."""
    run: str
    """The run that the bundle was built from."""
    dataset_fingerprint: str
    """What that run was trained on."""
    version: int
    """Of its id maps."""
    encoder_hash: str
    """Of its id maps and statistics."""


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Lineage of the id maps of a run."""

    version: int
    """Counts the datasets that the ids have seen; rows of a version keep their meaning in all later ones."""
    parent: Ancestor
    dataset: str
    """Name of the dataset version that the id maps have grown to."""
    dataset_fingerprint: str
    encoder_hash: str
    domains: tuple[DomainGrowth, ...]
    drift: tuple[StatisticDrift, ...]
    new_fields: tuple[str, ...]
    gone_fields: tuple[str, ...]

    @classmethod
    def of(cls, growth: Growth, parent: Ancestor, *, dataset: str, fingerprint: str) -> "Lineage":
        """Describe id maps that have just grown."""
        return cls(
            version=parent.version + 1,
            parent=parent,
            dataset=dataset,
            dataset_fingerprint=fingerprint,
            encoder_hash=growth.encoder.hash,
            domains=growth.domains,
            drift=growth.drift,
            new_fields=growth.new_fields,
            gone_fields=growth.gone_fields,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the lineage as plain data."""
        return asdict(self)

    def save(self, path: Path) -> None:
        """Write the lineage as JSON."""
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path, encoder: FeatureEncoder) -> "Lineage":
        """Read the lineage of ``encoder``.

        Raises:
            CorruptError: it cannot be read, or tells of other id maps.
        """
        with reading(path, "restore it"):
            data = json.loads(path.read_text())
            lineage = cls(
                version=data["version"],
                parent=Ancestor(**data["parent"]),
                dataset=data["dataset"],
                dataset_fingerprint=data["dataset_fingerprint"],
                encoder_hash=data["encoder_hash"],
                domains=tuple(DomainGrowth(**each) for each in data["domains"]),
                drift=tuple(_drift(each) for each in data["drift"]),
                new_fields=tuple(data["new_fields"]),
                gone_fields=tuple(data["gone_fields"]),
            )
        if lineage.encoder_hash != encoder.hash:
            raise CorruptError(
                f"{path} tells of id maps with the hash {lineage.encoder_hash[:12]}, and those beside it have "
                f"{encoder.hash[:12]}: the rows of the model stand for other values; restore them"
            )
        return lineage


def _drift(data: dict[str, Any]) -> StatisticDrift:
    return StatisticDrift(feature=data["feature"], kept=NumericStats(**data["kept"]), now=NumericStats(**data["now"]))
