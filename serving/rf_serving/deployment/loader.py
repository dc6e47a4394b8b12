"""Load a bundle that is to be served, and hold it against everything it depends on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from rf_platform.features.read import read_spec
from rf_platform.features.spec import FeatureSpec
from rf_platform.registry import BundleRecord, check_bundle, check_spec
from rf_platform.registry.journal import CatalogJournal
from rf_platform.settings import Settings
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.live import LiveCatalog
from rf_serving.deployment.smoke import check_answers
from rf_serving.ranking.policy import RerankPolicy
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.routing import Route
from rf_serving.user_features.fetcher import FeatureFetcher
from rf_serving.user_features.offered import OfferedFeatures

if TYPE_CHECKING:
    from feast import FeatureStore


@dataclass(frozen=True, eq=False, kw_only=True)
class Loaded:
    """A bundle in memory, checked, with its catalog up to date."""

    record: BundleRecord
    route: Route
    catalog: LiveCatalog

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.record.name

    def close(self) -> None:
        """Stop following the catalog; requests that are being answered finish with what they hold."""
        self.catalog.close()


class BundleLoader:
    """Loads bundles for one server process."""

    def __init__(self, settings: Settings, store: "FeatureStore", journal: CatalogJournal) -> None:
        self._settings, self._store, self._journal = settings, store, journal
        self.cache = settings.workspace.cache / "catalog"
        """Directory of the compacted catalogs of all bundles."""
        self.offered = OfferedFeatures()
        """Offer of the feature store, as of the last load of a bundle."""

    def load(self, record: BundleRecord, beside: Route | None = None, *, verified: bool = False) -> Loaded:
        """Check a bundle's files and features, load it, bring its catalog up to date and try it. Blocks.

        Args:
            record: the bundle.
            beside: what answers meanwhile; a bundle that reads the same features, by the same ttls, shares its connection.
            verified: its checksums have just been compared.

        Raises:
            NotFoundError: its directory is gone.
            CorruptError: a file is damaged; the message names it.
            ConfigError: the feature store does not offer what it reads; the message names the fields.
            RfError: it does not answer as it should; see :func:`check_answers`.
        """
        if not verified:
            check_bundle(record)
        current = read_spec(self._store, self._settings.feature_service)
        fit = check_spec(record, current)
        self.offered.renew(current)
        log = structlog.get_logger("rf_serving")
        if fit.notes:
            log.info("other features", bundle=record.name, added=list(fit.added), changed=list(fit.changed))
        bundle = ServedBundle.open(record.path, self._settings.index_device)
        _warn_of_short_history(bundle, current, log)
        reranking = RerankPolicy.of(self._settings)
        if reranking.default == "lime" and bundle.ranker is None:
            log.warning(
                "no re-ranker",
                bundle=bundle.name,
                remedy="answers are in the order of the search; build a bundle of a run with a re-ranker, or unset RF_RERANK",
            )
        catalog = LiveCatalog.open(bundle, self._journal, self.cache, device=self._settings.index_device)
        engine = Engine(bundle, catalog, reranking=reranking, offered=self.offered)
        catalog.prepare = engine.warm
        engine.warm(catalog.snapshot, beside.engine if beside is not None else None)
        fetcher = FeatureFetcher(self._store, bundle)
        if beside is not None and beside.fetcher.reads_as(fetcher):
            fetcher = beside.fetcher
        loaded = Loaded(record=record, route=Route(engine=engine, fetcher=fetcher), catalog=catalog)
        check_answers(loaded.route)
        catalog.follow()
        return loaded


def _warn_of_short_history(bundle: ServedBundle, current: FeatureSpec, log: Any) -> None:
    """Log where the online history is shorter than what the model was made for."""
    model, kept = bundle.model.config.max_history, current.history_length
    if bundle.spec.history and model > kept:
        log.warning(
            "short history",
            bundle=bundle.name,
            model_reads=model,
            online_store_keeps=kept,
            remedy="raise the tag history_length of the history view, apply and materialize",
        )
