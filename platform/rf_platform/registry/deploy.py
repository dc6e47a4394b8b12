"""Change what is served, after holding the bundle against its checksums and against the feature store."""

import json
from collections.abc import Callable
from pathlib import Path

from rf_platform.bundle import BundleManifest, verify
from rf_platform.bundle.files import MODEL, SPEC
from rf_platform.bundle.signature import check_signature
from rf_platform.errors import ConfigError
from rf_platform.features.spec import FeatureSpec
from rf_platform.features.spec_fit import SpecFit
from rf_platform.registry.records import BundleRecord, DeploymentRecord, TrafficRecord
from rf_platform.registry.registry import Registry
from rf_platform.registry.remote_files import fetched, published
from rf_platform.settings import Settings

CurrentSpec = FeatureSpec | Callable[[], FeatureSpec] | None
"""Spec of the feature store now, or a function that reads it (called once the files are known to be intact); None
leaves that check out."""


Rehearse = Callable[[BundleRecord], None] | None
"""Tries a bundle on the live catalog, as a server would, and raises if it cannot be served; None leaves that out."""


def features_now(settings: Settings) -> FeatureSpec:
    """Read what the feature store offers now; it imports Feast, which takes seconds."""
    from rf_platform.features.read import read_spec
    from rf_platform.features.store import open_store

    return read_spec(open_store(settings), settings.feature_service)


def promote(
    registry: Registry, name: str, *, note: str = "", current_spec: CurrentSpec = None, rehearse: Rehearse = None
) -> DeploymentRecord:
    """Make a bundle the served one if it is fit to be; otherwise the earlier one stays.

    Args:
        registry: the registry.
        name: name of the bundle.
        note: why, for the history.
        current_spec: what the feature store offers now (:data:`CurrentSpec`).
        rehearse: tries the bundle on the live catalog (:data:`Rehearse`).

    Raises:
        NotFoundError: there is no such bundle, or its directory is gone.
        CorruptError: a file of the bundle is damaged; the message names it.
        UntrustedError: it has to be signed (``RF_REQUIRE_SIGNATURE``), and is not.
        ConfigError: the feature store no longer offers what the bundle reads; the message names the fields.
    """
    _make_ready(registry, registry.bundle(name), current_spec, rehearse)
    return registry.promote(name, note)


def split(
    registry: Registry,
    name: str,
    percent: float,
    *,
    note: str = "",
    current_spec: CurrentSpec = None,
    rehearse: Rehearse = None,
) -> TrafficRecord:
    """Let a bundle answer a part of the users, if it is fit to be served; see :meth:`TrafficControl.split`.

    Raises:
        UsageError, NotFoundError, CorruptError, UntrustedError, ConfigError: as for :func:`promote`; or it
            cannot stand beside the served one.
    """
    _make_ready(registry, registry.bundle(name), current_spec, rehearse)
    return registry.traffic.split(name, percent, note)


def shadow(
    registry: Registry,
    name: str,
    share: float,
    *,
    note: str = "",
    current_spec: CurrentSpec = None,
    rehearse: Rehearse = None,
) -> TrafficRecord:
    """Let a bundle answer a share of the requests unseen, if it is fit to be served; see :meth:`TrafficControl.shadow`.

    Raises:
        UsageError, NotFoundError, CorruptError, UntrustedError, ConfigError: as for :func:`split`.
    """
    _make_ready(registry, registry.bundle(name), current_spec, rehearse)
    return registry.traffic.shadow(name, share, note)


def roll_back(
    registry: Registry, *, note: str = "", current_spec: CurrentSpec = None, rehearse: Rehearse = None
) -> DeploymentRecord:
    """Go back to the bundle served before, if it is fit to be served; otherwise the current one stays.

    Raises:
        UsageError: nothing was served before the current bundle.
        NotFoundError, CorruptError, UntrustedError, ConfigError: as for :func:`promote`.
    """
    target = registry.rollback_target()
    _make_ready(registry, target, current_spec, rehearse)
    return registry.rollback(note, expected=target.name)


def _make_ready(registry: Registry, record: BundleRecord, current_spec: CurrentSpec, rehearse: Rehearse) -> None:
    """Have a bundle here, check it, and have it where servers of other hosts fetch it."""
    check_bundle(fetched(registry, record), current_spec, rehearse, signed_by=registry.signed_by)
    published(registry, record)


def check_bundle(
    record: BundleRecord, current_spec: CurrentSpec = None, rehearse: Rehearse = None, *, signed_by: Path | None
) -> BundleManifest:
    """Check that a bundle can be served, and return its manifest.

    Args:
        record: the bundle as the registry knows it.
        current_spec: what the feature store offers now (:data:`CurrentSpec`).
        rehearse: tries the bundle on the live catalog (:data:`Rehearse`).
        signed_by: file of the public keys one of which has to have signed it; None: it need not be signed.

    Raises:
        NotFoundError: the bundle's directory is gone.
        CorruptError: a file of the bundle is damaged, or it is another bundle than the recorded one.
        UntrustedError: it is not signed by one of these keys.
        ConfigError: the feature store no longer offers what the bundle reads; the message names the fields.
    """
    if signed_by is not None:
        check_signature(record.path, signed_by)  # first: the checksums of a large bundle take a while
    manifest = verify(record.path, expected_manifest=record.manifest_sha256)
    current = current_spec() if callable(current_spec) else current_spec
    if current is not None:
        check_spec(record, current)
    if rehearse is not None:
        rehearse(record)
    return manifest


def check_spec(record: BundleRecord, current: FeatureSpec) -> SpecFit:
    """Check that the feature store still offers all that a bundle reads, and return how the two fit.

    Raises:
        ConfigError: it does not; the message names the fields.
        CorruptError: the bundle's specification cannot be read.
    """
    fit = SpecFit.of(bundle_spec(record), current, _max_history(record.path / MODEL / "config.json"))
    if fit.unmet:
        raise ConfigError(
            f"bundle '{record.name}' does not fit the feature store any more: {', '.join(fit.unmet)}; bring the feature "
            f"definitions back and run `rf features apply` and `rf features materialize`, or build a dataset, train and build "
            f"a bundle anew"
        )
    return fit


def bundle_spec(record: BundleRecord) -> FeatureSpec:
    """Read the FeatureSpec that a bundle was built from.

    Raises:
        CorruptError: there is none, or this version cannot read it.
    """
    return FeatureSpec.load(record.path / SPEC)


def _max_history(config: Path) -> int | None:
    """Return how many interactions a model reads; None where it does not say."""
    try:
        length: int | None = json.loads(config.read_text()).get("max_history")
    except (OSError, ValueError, AttributeError):
        return None
    return length
