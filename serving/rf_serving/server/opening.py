"""Open what is served."""

from typing import TYPE_CHECKING

from rf_platform.errors import NotFoundError
from rf_platform.features.read import read_spec
from rf_platform.features.store import open_store
from rf_platform.registry import BundleRecord, Registry, check_bundle, check_spec
from rf_platform.settings import Settings
from rf_serving.bundle.served import ServedBundle

if TYPE_CHECKING:
    from feast import FeatureStore


def open_served(settings: Settings, name: str | None = None) -> tuple[ServedBundle, "FeatureStore"]:
    """Open a bundle as it was built, and the feature store it is served from.

    Raises:
        NotFoundError: there is no such bundle, or none was ever promoted.
        CorruptError: a file of the bundle is damaged; the message names it.
        ConfigError: the feature store no longer offers what the bundle reads; the message names the fields.
    """
    record = record_to_serve(Registry.of(settings), name)
    check_bundle(record)  # before Feast is imported, which takes seconds
    store = open_store(settings)
    check_spec(record, read_spec(store, settings.feature_service))
    return ServedBundle.open(record.path, settings.index_device), store


def record_to_serve(registry: Registry, name: str | None = None) -> BundleRecord:
    """Return the bundle of a name, or the promoted one.

    Raises:
        NotFoundError: there is no such bundle, or none was ever promoted.
    """
    record = registry.bundle(name) if name else registry.active_bundle()
    if record is None:
        raise NotFoundError(
            "no bundle is promoted yet; choose one with `rf promote NAME`, or serve one with --bundle NAME"
        )
    return record
