"""Checks of the served bundle: its files, and whether the feature store still matches it."""

from rf_platform.doctor.check import Finding, ok, warn
from rf_platform.doctor.stores import existing_registry
from rf_platform.errors import RfError
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
    """Does the feature store still offer what the served bundle was built from?"""
    record = _served(settings)
    if record is None:
        return ok("no bundle is served yet")
    try:
        current = features_now(settings)
    except RfError:
        return warn("cannot be compared: Feast's registry is not readable", "see the check of Feast's registry")
    check_spec(record, current)
    return ok(f"{record.name} and the feature store have the same specification")


def _served(settings: Settings) -> BundleRecord | None:
    registry = existing_registry(settings)
    return None if registry is None else registry.active_bundle()
