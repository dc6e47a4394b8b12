"""Items that a bundle would have shown in logged answers, by the features as they were read then."""

from collections.abc import Sequence

import pyarrow as pa
import structlog

from rf_platform.errors import RfError
from rf_platform.policies import read_policy
from rf_platform.registry import BundleRecord, Registry
from rf_platform.registry.journal import CatalogJournal
from rf_platform.settings import Settings
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.live import LiveCatalog
from rf_serving.experiments.logged_features import read_features
from rf_serving.logs import configure_logs
from rf_serving.policies import CompiledPlacement, CompiledPolicy
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Query, RankRequest
from rf_serving.stage_timer import StageTimer, unobserved

_AT_ONCE = 64


def slates(
    settings: Settings,
    registry: Registry,
    record: BundleRecord,
    placement: str,
    subjects: Sequence[str],
    records: pa.Table,
) -> list[list[str]]:
    """Return the items that a bundle would have shown, best first, by the rules of a placement without exploration.

    The catalog and the policy are those of now, and what is in the history is left out.

    Args:
        settings: of the workspace.
        registry: of the workspace.
        record: the bundle.
        placement: its rules.
        subjects: user or session of each answer.
        records: of the serving log, with the features.

    Raises:
        UsageError: the bundle reads features that are not logged.
        RfError: the bundle cannot be read, or cannot rank an answer.
    """
    if not structlog.is_configured():
        configure_logs("error")  # a command's output is its own
    bundle = ServedBundle.open(record.path, "cpu")
    features = read_features(records, bundle.spec, record.name)
    journal = CatalogJournal.open(settings.platform_registry_url)
    catalog = LiveCatalog.open(bundle, journal)
    try:
        engine = Engine(bundle, catalog)
        rules = _rules(registry, engine, placement)
        wanted = records["k"].to_pylist()
        found: list[list[str]] = []
        for start in range(0, len(features), _AT_ONCE):
            asks = [
                RankRequest(
                    features=each,
                    query=Query(subject=subject, k=k, exclude_seen=True, history=False),
                    watch=StageTimer(unobserved),
                    rules=rules,
                )
                for each, subject, k in zip(
                    features[start : start + _AT_ONCE],
                    subjects[start : start + _AT_ONCE],
                    wanted[start : start + _AT_ONCE],
                    strict=True,
                )
            ]
            for answer in engine.rank_many(asks):
                if isinstance(answer, RfError):
                    raise answer
                found.append(list(answer.items))
    finally:
        catalog.close()
        journal.close()
    return found


def _rules(registry: Registry, engine: Engine, placement: str) -> CompiledPlacement | None:
    """Return the rules of a placement without draws."""
    newest = registry.policies.newest()
    if newest is None or not placement:
        return None
    policy = read_policy(newest.text, newest.name)
    plain = {name: each.model_copy(update={"exploration": None}) for name, each in policy.placements.items()}
    without = policy.model_copy(update={"placements": plain})
    return CompiledPolicy.compile(without, engine.bundle.spec, newest.version, engine.bundle.goals).placement(placement)
