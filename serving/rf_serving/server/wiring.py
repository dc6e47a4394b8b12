"""Components of a server process, and their wiring."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from rf_platform.data.event_log import StoreFault
from rf_platform.features.store import open_store
from rf_platform.forget import Forgotten
from rf_platform.registry import Registry, check_bundle
from rf_platform.registry.evidence import EvidenceJournal
from rf_platform.registry.journal import CatalogJournal
from rf_platform.serving_log import ServingParts
from rf_platform.settings import Settings
from rf_protos.v1 import retrieval_pb2
from rf_serving.breaker import Breaker
from rf_serving.catalog.metrics import CatalogMetrics
from rf_serving.deployment.deployments import Deployments
from rf_serving.deployment.loader import BundleLoader, record_to_serve
from rf_serving.deployment.metrics import DeploymentMetrics
from rf_serving.event_counts import CountFollower, CountOf, FirstOf, log_source
from rf_serving.events import EventIntake
from rf_serving.policies import CompiledPolicy
from rf_serving.retrieval.retriever import Retriever
from rf_serving.retrieval.thread_batcher import BatchLimits
from rf_serving.server.admission import Admission
from rf_serving.server.catalog_servicer import CatalogServicer, catalog_service
from rf_serving.server.deployment_servicer import deployment_service
from rf_serving.server.feedback_servicer import feedback_service
from rf_serving.server.metrics import ServerMetrics
from rf_serving.server.options import ServeOptions
from rf_serving.server.retrieval_servicer import retrieval_service
from rf_serving.server.rpc import Service
from rf_serving.serving_log import LogOptions, Recorder
from rf_serving.user_features.online_reader import OnlineReader

_REASONS = {
    StoreFault.NONE: retrieval_pb2.DEGRADED_REASON_UNSPECIFIED,
    StoreFault.BEHIND: retrieval_pb2.DEGRADED_STORE_BEHIND,
    StoreFault.UNLOADED: retrieval_pb2.DEGRADED_STORE_UNLOADED,
    StoreFault.FOREIGN: retrieval_pb2.DEGRADED_STORE_FOREIGN,
}


@dataclass(frozen=True, kw_only=True)
class ServerComponents:
    """Everything behind the port, built and connected."""

    retriever: Retriever
    deployments: Deployments
    services: list[Service]
    recorder: Recorder
    """Of the serving log."""


@contextmanager
def build_components(
    settings: Settings, metrics: ServerMetrics, options: ServeOptions, admission: Admission
) -> Iterator[ServerComponents]:
    """Build the parts of a server, and end their threads with the block.

    Args:
        settings: where things are.
        metrics: told about everything.
        options: of the server.
        admission: of the calls that read; a shadow pauses while it is busy.

    Raises:
        NotFoundError: there is no such bundle, or none was ever promoted.
        CorruptError: a file of the bundle is damaged; the message names it.
        UntrustedError: the bundle has to be signed, and is not.
        ConfigError: the feature store no longer offers what the bundle reads; the message names the fields.
        RfError: something cannot be opened.
    """
    limits = options.limits
    with ExitStack() as ending:
        registry = Registry.of(settings)
        record = record_to_serve(registry, options.bundle)
        check_bundle(record, signed_by=settings.require_signature)  # before Feast is imported, which takes seconds
        store = open_store(settings)
        journal = CatalogJournal.open(settings.platform_registry_url)
        ending.callback(journal.close)
        counts = CountFollower(log_source(settings), metrics.registry)
        ending.callback(counts.close)
        loader = BundleLoader(settings, store, journal, counts.ask)
        first = loader.load(record, verified=True)
        reads = OnlineReader(Breaker(changed=_tell_store(metrics)))
        retriever = Retriever(
            first.route,
            observe=metrics.observe_stage,
            reads=reads,
            fetch_seconds=options.fetch_seconds,
            batches=BatchLimits(most=options.batch_most, collect_seconds=options.batch_seconds),
        )
        ending.callback(retriever.close)
        deployments = Deployments(
            retriever,
            loader,
            first,
            DeploymentMetrics(metrics.registry),
            busy=lambda: admission.busy,
            policies=registry.policies.history(),
        )
        ending.callback(deployments.close)
        del first  # else it would be kept in memory after the next bundle has taken over
        edits = CatalogServicer(retriever, journal, limits, loader.offered)
        ending.callback(edits.close)
        metrics.registry.register(CatalogMetrics(lambda: edits.catalog))
        intake = EventIntake(settings, store, metrics.registry, tell=partial(_widen_replay_window, reads))
        ending.callback(intake.close)
        if settings.event_counts:
            if settings.co_occurrence:
                counts.ask()
            counts.follow(lambda: retriever.bundle.spec, lambda: _counts_of(retriever.routing.active.policy))
        if settings.first_events:
            intake.follow_first_events(retriever, EvidenceJournal(journal.engine))
        # Every further part: build it here, let `ending` close it, and add its service to the list.
        forgotten = partial(Forgotten(settings.workspace).without, user="user_id", time="time")
        parts = ServingParts(settings.workspace.serving_log)
        recorder = Recorder(parts, _log_options(settings), metrics.registry, forgotten)
        ending.callback(recorder.close)
        services = [
            retrieval_service(retriever, limits, metrics.observe_answer, recorder),
            catalog_service(edits),
            feedback_service(intake, retriever, limits),
            deployment_service(deployments),
        ]
        if options.bundle is None:
            deployments.follow(registry, options.poll_seconds)
        yield ServerComponents(retriever=retriever, deployments=deployments, services=services, recorder=recorder)


def _log_options(settings: Settings) -> LogOptions:
    return LogOptions(share=settings.log_share, days=settings.log_days, megabytes=settings.log_mb)


def _counts_of(policy: CompiledPolicy | None) -> set[CountOf | FirstOf]:
    """Return what the lists of a policy need."""
    return set() if policy is None else policy.counts


def _widen_replay_window(reads: OnlineReader, fault: StoreFault) -> None:
    reads.fault = _REASONS[fault]


def _tell_store(metrics: ServerMetrics) -> Callable[[bool], None]:
    log = structlog.get_logger("rf_serving")

    def changed(down: bool) -> None:
        metrics.store_down.set(down)
        if down:
            log.warning("online store is down", answers="degraded, without users' features")
        else:
            log.info("online store is back")

    return changed
