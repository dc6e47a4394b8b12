"""Checks of the served bundle: its files, and whether the feature store still offers what it reads."""

from rf_platform.doctor.check import Finding, ok, warn
from rf_platform.doctor.stores import existing_registry
from rf_platform.errors import CorruptError, RfError
from rf_platform.registry import BundleRecord, check_bundle, check_spec, features_now
from rf_platform.settings import Settings


def check_served_bundle(settings: Settings) -> Finding:
    """Is the served bundle there, every byte of it?"""
    record = _served(settings)
    if record is None:
        return warn("no bundle is served yet", "`rf index build`, then `rf promote NAME`")
    manifest = check_bundle(record)
    return ok(f"{record.name}: {len(manifest.files)} files, {manifest.total_bytes / (1 << 20):,.1f} MiB, intact")


def check_served_features(settings: Settings) -> Finding:
    """Check that the feature store offers all that the served bundle reads."""
    record = _served(settings)
    if record is None:
        return ok("no bundle is served yet")
    try:
        current = features_now(settings)
    except RfError:
        return warn("cannot be compared: Feast's registry is not readable", "see the check of Feast's registry")
    try:
        fit = check_spec(record, current)
    except CorruptError:
        return warn(f"cannot be compared: the files of {record.name} are damaged", "see the check of the served bundle")
    return ok(f"the feature store offers all that {record.name} reads", "; ".join(fit.notes))


def _served(settings: Settings) -> BundleRecord | None:
    registry = existing_registry(settings)
    return None if registry is None else registry.active_bundle()
