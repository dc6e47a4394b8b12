"""Load a bundle, serve it until a signal comes, drain."""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import structlog

from rf_platform.errors import NotFoundError
from rf_platform.features.read import read_spec
from rf_platform.features.store import open_store
from rf_platform.registry import BundleRecord, Registry, check_bundle
from rf_platform.registry.deploy import check_spec
from rf_platform.settings import Settings
from rf_serving.bundle.served import ServedBundle
from rf_serving.retrieval.retriever import Retriever
from rf_serving.server.metrics import ServerMetrics
from rf_serving.server.server import RetrievalServer

if TYPE_CHECKING:
    from feast import FeatureStore


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """How a server runs."""

    host: str = "127.0.0.1"
    port: int = 50051
    """0 chooses a free one."""
    bundle: str | None = None
    """Name of the bundle; default: the promoted one."""
    max_k: int = 1000
    """Largest ``k`` a request may ask for."""
    drain_seconds: float = 20.0
    """How long calls in flight may take after a signal."""
    metrics_port: int | None = None
    """Port of the Prometheus metrics; None: not exposed."""


def open_served(settings: Settings, name: str | None = None) -> tuple[ServedBundle, "FeatureStore"]:
    """Open a bundle and the feature store it is served from.

    Raises:
        NotFoundError: there is no such bundle, or none was ever promoted.
        CorruptError: a file of the bundle is damaged; the message names it.
        ConfigError: the feature store no longer matches the bundle; the message names the fields.
    """
    record = _record(Registry.open(settings.platform_registry_url, root=settings.workspace.root), name)
    check_bundle(record)  # before Feast is imported, which takes seconds
    store = open_store(settings)
    check_spec(record, read_spec(store, settings.feature_service))
    return ServedBundle.open(record.path), store


def _record(registry: Registry, name: str | None) -> BundleRecord:
    record = registry.bundle(name) if name else registry.active_bundle()
    if record is None:
        raise NotFoundError(
            "no bundle is promoted yet; choose one with `rf promote NAME`, or serve one with --bundle NAME"
        )
    return record


async def serve(settings: Settings, options: ServeOptions) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        RfError: the server cannot start.
    """
    log = structlog.get_logger("rf_serving")
    begin = perf_counter()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    metrics = ServerMetrics()
    server = RetrievalServer(options.host, options.port, metrics)
    with metrics.exposed(options.host, options.metrics_port) as metrics_port:
        bundle, store = await asyncio.to_thread(open_served, settings, options.bundle)
        retriever = Retriever(bundle, store, metrics.observe_stage)
        try:
            metrics.set_bundle(bundle.name, bundle.manifest.spec_hash)
            _warn(bundle, log.warning)
            await server.start(retriever, options.max_k)
            log.info(
                "serving",
                address=server.address,
                host=options.host,
                port=server.port,
                bundle=bundle.name,
                items=len(bundle.item_ids),
                index=bundle.manifest.index.kind,
                load_seconds=round(perf_counter() - begin, 3),
                **({"metrics_port": metrics_port} if metrics_port is not None else {}),
            )
            await stop.wait()
            log.info("draining", seconds=options.drain_seconds)
            finished = await server.drain(options.drain_seconds)
            (log.info if finished else log.warning)("stopped", all_calls_finished=finished)
        finally:
            retriever.close()


def _warn(bundle: ServedBundle, warn: Callable[..., object]) -> None:
    """Say where the online history is shorter than what the model was made for."""
    model, kept = bundle.model.config.max_history, bundle.spec.history_length
    if bundle.spec.history and model > kept:
        warn(
            "short history",
            model_reads=model,
            online_store_keeps=kept,
            remedy="raise the tag history_length of the history view, apply and materialize",
        )
