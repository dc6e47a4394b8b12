"""The next dataset version of a workspace: its definitions, its imported tables and the events recorded since."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from rf_platform.data.event_log import has_clock, seal
from rf_platform.dataset.build import BuildOptions, build_dataset
from rf_platform.dataset.dataset import Dataset
from rf_platform.dataset.protocols import (
    PROTOCOLS,
    LeaveOneOut,
    SplitProtocol,
    Temporal,
    parse_cut,
    protocol_from_options,
)
from rf_platform.errors import UsageError
from rf_platform.failures import read_json
from rf_platform.features.event_weights import unlike_mapping
from rf_platform.features.read import read_definitions
from rf_platform.features.store import open_store
from rf_platform.registry import Registry, published
from rf_platform.settings import Settings


@dataclass(frozen=True, kw_only=True)
class BuiltVersion:
    """A dataset version that was just built, or found again."""

    dataset: Dataset
    new: bool
    """False: equal inputs gave the version that was there already."""
    warnings: tuple[str, ...]


def build_version(settings: Settings, protocol: SplitProtocol, memory: str = "3GB") -> BuiltVersion:
    """Build the next dataset version of a workspace and record it.

    Args:
        settings: the workspace.
        protocol: what is held out.
        memory: DuckDB's memory limit.

    Raises:
        UsageError: the protocol needs times, and those of the tables were made from positions.
        RfError: as :func:`~rf_platform.dataset.build.build_dataset` and
            :func:`~rf_platform.features.read.read_definitions` say.
    """
    path = settings.workspace.tables / "import.json"
    record = read_json(path, "import again") if path.exists() else {}
    catalog = record.get("name", "catalog")
    if isinstance(protocol, Temporal) and record.get("time") == "position":
        raise UsageError(
            f"--protocol={protocol.name} needs times, but those of {catalog!r} were made from positions within each user "
            f'({path}: "time": "position"), so one moment for all users means nothing; choose another protocol'
        )
    definitions = read_definitions(open_store(settings), settings.feature_service)
    registry = Registry.of(settings)
    known = [d.version for d in registry.datasets() if d.name.startswith(f"{catalog}-v")]
    with seal(settings).reading() as events:
        dataset, new = build_dataset(
            definitions,
            settings.workspace.tables / "interactions.parquet",
            settings.workspace.datasets,
            catalog,
            BuildOptions(
                memory_limit=memory,
                threads=settings.threads,
                protocol=protocol,
                events=tuple(events),
                clock=has_clock(settings),
                after_version=max(known, default=0),
            ),
        )
    published(registry, dataset.record(registry))
    unlike = unlike_mapping(definitions.spec.weights, record.get("event_weights"))
    warnings = (*dataset.manifest.get("warnings", ()), *([unlike] if unlike else []))
    return BuiltVersion(dataset=dataset, new=new, warnings=warnings)


def protocol_of(described: Mapping[str, Any]) -> SplitProtocol:
    """Return the protocol that a dataset's manifest describes; what followed from it, such as the time of a cut, is left out."""
    name = described.get("name", LeaveOneOut.name)
    own = {f.name for f in fields(PROTOCOLS[name])}
    options = {key: value for key, value in described.items() if key in own}
    for cut in ("validation_cut", "test_cut"):
        if isinstance(options.get(cut), str):
            options[cut] = parse_cut(options[cut], cut)
    return protocol_from_options(name, options)
