"""Lineage of a run's id maps: the bundle they go on from, and the fate of every value, also as tables for people.

Written beside the id maps, in the run and in its bundles. A model trained from nothing has none: its id maps are version 1.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

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
    """Dataset of that run."""
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


NOTABLE_SHIFT, NOTABLE_STRETCH = 0.5, 2.0
"""Numbers are called drifted from half a deviation on, or when their spread has doubled or halved."""


def lineage_tables(lineage: Lineage) -> Iterator[Table | str]:
    """Yield a table of the embedding domains, one of drifted numbers where there are any, and sentences on features."""
    yield _domains(lineage)
    if lineage.new_fields:
        yield (
            f"new features, of which the model knows nothing yet: {', '.join(lineage.new_fields)}; their tokens start at zero, "
            f"so vectors are not exactly what they were"
        )
    if lineage.gone_fields:
        yield (
            f"features the model was trained with and the dataset has not: {', '.join(lineage.gone_fields)}; what it learned "
            f"about them is left out, and vectors change at once"
        )
    if any(_drifted(shift=d.shift, stretch=d.stretch) for d in lineage.drift):
        yield _drift_row(lineage)


def _domains(lineage: Lineage) -> Table:
    parent = lineage.parent
    table = Table(
        title=f"id maps, version {lineage.version}: those of bundle {parent.bundle} (version {parent.version}), grown to dataset "
        f"{lineage.dataset}",
        title_justify="left",
        caption="known values keep their ids; new ones follow and start as the unknown one; vanished ones keep their rows",
        caption_justify="left",
    )
    table.add_column("domain")
    table.add_column("vocabulary")
    for column in ("rows before", "rows now", "kept", "new", "vanished"):
        table.add_column(column, justify="right")
    for domain in lineage.domains:
        learned = domain.policy == "learned"
        values = [f"{n:,}" if learned else "-" for n in (domain.kept, domain.new, domain.vanished)]
        before = f"{domain.rows_before:,}" if domain.rows_before else "new domain"
        table.add_row(domain.domain, domain.policy, before, f"{domain.rows:,}", *values)
    return table


def _drift_row(lineage: Lineage) -> Table:
    table = Table(
        title="numbers that have drifted; they go on being standardised by the first training's mean and deviation",
        title_justify="left",
        caption="a new training, without --from, would standardise them anew",
        caption_justify="left",
    )
    table.add_column("feature")
    for column in ("mean kept", "mean now", "deviation kept", "deviation now", "shift in deviations"):
        table.add_column(column, justify="right")
    for each in lineage.drift:
        if _drifted(shift=each.shift, stretch=each.stretch):
            numbers = (each.kept.mean, each.now.mean, each.kept.std, each.now.std)
            table.add_row(each.feature, *(f"{number:.6g}" for number in numbers), f"{each.shift:+.2f}")
    return table


def _drifted(*, shift: float, stretch: float) -> bool:
    return abs(shift) >= NOTABLE_SHIFT or not 1 / NOTABLE_STRETCH < stretch < NOTABLE_STRETCH
