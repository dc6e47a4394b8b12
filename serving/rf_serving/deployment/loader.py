"""Load a bundle that is to be served, hold it against everything it depends on, and try it."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from rf_platform.errors import NotFoundError, RunError, UnavailableError
from rf_platform.failures import summary
from rf_platform.features.read import read_definitions, read_spec
from rf_platform.features.spec import FeatureSpec
from rf_platform.features.store_content import store_content
from rf_platform.object_store import ObjectStore
from rf_platform.registry import BundleRecord, Registry, check_bundle, check_spec, fetch, fetched
from rf_platform.registry.journal import CatalogJournal
from rf_platform.settings import Settings, get_settings
from rf_protos.v1.retrieval_pb2 import RERANK_LIME, RERANK_NONE, Rerank
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.live import LiveCatalog
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.deployment.first_users import first_users_of
from rf_serving.event_counts import Counted
from rf_serving.index.vector_index import NO_ROW
from rf_serving.ranking.policy import RerankPolicy
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Answer, Query
from rf_serving.retrieval.routing import Route
from rf_serving.stage_timer import StageTimer
from rf_serving.user_features.features import UserFeatures
from rf_serving.user_features.fetcher import FeatureFetcher
from rf_serving.user_features.offered import OfferedFeatures

if TYPE_CHECKING:
    from feast import FeatureStore


_K = 10
_HISTORY = 5
_PROBES = 16
_TOLERANCE = 1e-3


def check_answers(route: Route) -> None:
    """Ask a bundle for an unknown user, for a history, for its re-ranker and its own items; blocks until all is answered.

    Raises:
        RunError: an answer is wrong.
        RfError: the features cannot be read from the online store, or not encoded.
    """
    engine = route.engine
    spec, snapshot = engine.bundle.spec, engine.catalog.snapshot
    nobody = "-" if spec.user.id_type == "string" else -1
    reader = route.fetcher.connected()
    try:
        unknown = reader.fetch(nobody)
    except UnavailableError as error:
        why = summary(error.__cause__) if isinstance(error.__cause__, Exception) else "no reason given"
        raise UnavailableError(
            f"{error} ({why}); check RF_ONLINE_STORE_URL, and load it with `rf features materialize`"
        ) from error
    finally:
        reader.close()
    _ask(route, snapshot, nobody, unknown, "a user without features")
    history = [engine.bundle.item_ids[row] for row in _spread(len(engine.bundle.item_ids), _HISTORY)]
    _ask(route, snapshot, nobody, UserFeatures(items=history), "a history of items")
    if engine.bundle.ranker is not None and snapshot.alive > len(history):
        answer = _ask(
            route, snapshot, nobody, UserFeatures(items=history), "a history of items, re-ranked,", RERANK_LIME
        )
        if answer.rerank != RERANK_LIME:
            raise RunError(
                f"bundle '{answer.bundle}' does not answer as it should: its re-ranker gives scores that are not numbers; train "
                f"it again with `rf rerank train`, or build the bundle with --no-reranker"
            )
    _check_index(engine.bundle.name, snapshot)


def _ask(
    route: Route,
    snapshot: CatalogSnapshot,
    user: int | str,
    features: UserFeatures,
    who: str,
    rerank: "Rerank" = RERANK_NONE,
) -> Answer:
    query = Query(subject=user, k=_K, exclude_seen=True, rerank=rerank)
    answer = route.engine.rank(features, query, StageTimer(lambda stage, seconds: None))
    least = min(_K, snapshot.alive - len(features.items))
    name = f"bundle '{answer.bundle}' does not answer as it should: for {who} it returns"
    if len(answer.items) < least or len(set(answer.items)) < len(answer.items):
        raise RunError(f"{name} {len(set(answer.items))} different items instead of {_K}")
    if not np.isfinite(answer.scores).all() or any(a < b for a, b in pairwise(answer.scores)):
        raise RunError(f"{name} scores that are not numbers in falling order: {answer.scores}")
    return answer


def _check_index(name: str, snapshot: CatalogSnapshot) -> None:
    """Search with vectors of the catalog: what the index returns has the scores that the vectors give."""
    rows = np.flatnonzero(snapshot.live_mask_N)
    if not len(rows):
        return
    queries_BD = np.ascontiguousarray(snapshot.vectors(rows[_spread(len(rows), _PROBES)]), np.float32)
    found = snapshot.search(queries_BD, _K)
    for query_D, rows_K, scores_K in zip(queries_BD, found.rows, found.scores, strict=True):
        hits = rows_K != NO_ROW
        expected_K = snapshot.vectors(rows_K[hits]) @ query_D
        if not hits.any() or np.abs(expected_K - scores_K[hits]).max() > _TOLERANCE:
            raise RunError(
                f"bundle '{name}' does not answer as it should: its index and its item vectors do not belong together; build "
                f"it again with `rf index build`"
            )


def _spread(total: int, count: int) -> list[int]:
    """Return up to ``count`` numbers below ``total``, evenly spread."""
    return np.unique(np.linspace(0, total - 1, count).astype(int)).tolist() if total else []


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


def record_to_serve(registry: Registry, name: str | None = None) -> BundleRecord:
    """Return the bundle of a name, or the promoted one.

    Raises:
        NotFoundError: there is no such bundle, or none was ever promoted.
    """
    record = registry.bundle(name) if name else registry.active_bundle()
    if record is None:
        raise NotFoundError(
            f"no bundle is promoted yet in {get_settings().workspace.root}; choose one with `rf promote NAME`, or serve one with "
            f"--bundle NAME"
        )
    return fetched(registry, record)


class BundleLoader:
    """Loads bundles for one server process."""

    def __init__(
        self,
        settings: Settings,
        store: "FeatureStore",
        journal: CatalogJournal,
        counted: Callable[[], Counted | None] = lambda: None,
    ) -> None:
        self._settings, self._store, self._journal, self._counted = settings, store, journal, counted
        self.cache = settings.workspace.cache / "catalog"
        """Directory of the compacted catalogs of all bundles."""
        self.offered = OfferedFeatures()
        """Offer of the feature store, as of the last load of a bundle."""
        self._objects = ObjectStore(settings) if settings.store_url else None
        self._looked = False

    def _fetch(self, record: BundleRecord) -> None:
        begin = perf_counter()
        if fetch(self._objects, record, visible=False):
            seconds = round(perf_counter() - begin, 3)
            structlog.get_logger("rf_serving").info("bundle fetched", bundle=record.name, seconds=seconds)

    def load(self, record: BundleRecord, beside: Route | None = None, *, verified: bool = False) -> Loaded:
        """Check a bundle's files and features, load it, bring its catalog up to date and try it. Blocks.

        Args:
            record: the bundle.
            beside: what answers meanwhile; a bundle that reads the same features, by the same ttls, shares its connection.
            verified: its signature and checksums have just been looked at.

        Raises:
            NotFoundError: its directory is gone, and the object store does not have it, if there is one.
            CorruptError: a file is damaged; the message names it.
            UntrustedError: it has to be signed, and is not.
            ConfigError: the feature store does not offer what it reads; the message names the fields.
            UnavailableError: the object store cannot be reached, or there is no room for the bundle.
            RfError: it does not answer as it should; see :func:`check_answers`.
        """
        self._fetch(record)
        if not verified:
            check_bundle(record, signed_by=self._settings.require_signature)
        current = read_spec(self._store, self._settings.feature_service)
        fit = check_spec(record, current)
        self.offered.renew(current)
        log = structlog.get_logger("rf_serving")
        if fit.notes:
            log.info("other features", bundle=record.name, added=list(fit.added), changed=list(fit.changed))
        bundle = ServedBundle.open(record.path, self._settings.index_device)
        _warn_of_short_history(bundle, current, log)
        if not self._looked:
            self._looked = True
            _warn_of_store_content(self._settings, self._store, log)
        reranking = RerankPolicy.of(self._settings)
        if reranking.default == "lime" and bundle.ranker is None:
            log.warning(
                "no re-ranker",
                bundle=bundle.name,
                remedy="answers are in the order of the search; build a bundle of a run with a re-ranker, or unset RF_RERANK",
            )
        catalog = LiveCatalog.open(bundle, self._journal, self.cache, device=self._settings.index_device)
        if self._settings.first_events and (first_users := first_users_of(catalog, self._journal)) is not None:
            catalog.learn_from(first_users)
        engine = Engine(
            bundle,
            catalog,
            reranking=reranking,
            offered=self.offered,
            counted=self._counted,
            co_occurrence=self._settings.co_occurrence,
        )
        catalog.prepare = engine.warm
        engine.warm(catalog.snapshot, beside.engine if beside is not None else None)
        fetcher = FeatureFetcher(self._store, bundle)
        if beside is not None and beside.fetcher.reads_as(fetcher):
            fetcher = beside.fetcher
        loaded = Loaded(record=record, route=Route(engine=engine, fetcher=fetcher), catalog=catalog)
        check_answers(loaded.route)
        catalog.follow()
        return loaded


@contextmanager
def opened(
    settings: Settings,
    store: "FeatureStore",
    record: BundleRecord,
    *,
    verified: bool = False,
    counted: Callable[[], Counted | None] = lambda: None,
) -> Iterator[Loaded]:
    """Yield a bundle as servers have it now, with the live catalog, for as long as the block runs.

    Args:
        settings: the workspace.
        store: source of users' features.
        record: the bundle.
        verified: its checksums have just been compared.
        counted: returns the counts of events, for lists and co-occurrence; None: there are none.

    Raises:
        RfError: as :meth:`BundleLoader.load`.
    """
    with (
        closing(CatalogJournal.open(settings.platform_registry_url)) as journal,
        closing(BundleLoader(settings, store, journal, counted).load(record, verified=verified)) as loaded,
    ):
        yield loaded


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


def _warn_of_store_content(settings: Settings, store: "FeatureStore", log: Any) -> None:
    """Name views that the online store lacks, has in part, or has of an earlier import; one that cannot be read is told."""
    try:
        found = store_content(settings, store, read_definitions(store, settings.feature_service))
    except Exception as error:  # each online store raises its own classes, and requests do without it
        log.warning("store and tables not compared", error=summary(error), remedy="see `rf doctor`")
        return
    for each in found:
        if each.problem:
            log.warning("store lacks rows", problem=each.problem, remedy="run `rf features materialize`")
