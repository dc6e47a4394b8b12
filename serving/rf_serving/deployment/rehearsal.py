"""Rehearsal of a bundle: policy and live catalog are held against it before it serves."""

import structlog

from rf_platform.errors import RfError, RunError
from rf_platform.registry import BundleRecord, Registry
from rf_platform.registry.journal import CatalogJournal
from rf_platform.settings import Settings
from rf_serving.policies.check import check_fit


class Rehearsal:
    """Replay of the catalog's journal, as a server does it when it takes a bundle; nothing is changed by it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.notes: list[str] = []
        """Items that the bundle does not have as they were recorded, in words."""

    def __call__(self, record: BundleRecord) -> None:
        """Replay the journal by a bundle.

        Raises:
            RunError: the bundle cannot take the live catalog; no server could serve it.
            ConfigError: the policy in effect names features that it does not have.
            RfError: the journal or the bundle cannot be read.
        """
        if (policy := Registry.of(self._settings).policies.newest()) is not None:
            check_fit(policy, record)
        journal = CatalogJournal.open(self._settings.platform_registry_url)
        try:
            if journal.last():
                self._replay(record, journal)
        finally:
            journal.close()

    def _replay(self, record: BundleRecord, journal: CatalogJournal) -> None:
        from rf_serving.bundle.served import ServedBundle
        from rf_serving.catalog.live import LiveCatalog
        from rf_serving.logs import configure_logs

        if not structlog.is_configured():
            configure_logs("error")  # a command's output is its own
        bundle = ServedBundle.open(record.path, "cpu")
        try:
            catalog = LiveCatalog.open(bundle, journal)
        except RfError:
            raise
        except Exception as error:
            raise RunError(
                f"bundle '{record.name}' cannot take in the changes of the live catalog ({type(error).__name__}: {error}); the "
                f"bundle served so far stays"
            ) from error
        catalog.close()
        if catalog.unfit:
            named = "; ".join(f"{item}: {why}" for item, why in catalog.unfit_named.items())
            more = (
                f"; and {catalog.unfit - len(catalog.unfit_named):,} more"
                if catalog.unfit > len(catalog.unfit_named)
                else ""
            )
            self.notes.append(
                f"{catalog.unfit:,} items of the live catalog are not served as they were recorded: {named}{more}"
            )
