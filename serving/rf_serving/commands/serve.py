"""``rf serve``: answer calls over gRPC, and over HTTP."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from rf_platform.cli.options import DefaultOrder

app = typer.Typer()


class Front(Enum):
    """Values of ``--front``."""

    GRPC = "grpc"
    HTTP2 = "http2"


_PORT, _PROTECTION, _LIMITS, _SPEED, _RANKING, _WATCHING = (
    "Port",
    "Protection",
    "Limits",
    "Speed",
    "Ranking",
    "Watching",
)


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 or :: for all.", rich_help_panel=_PORT)
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port; 0 chooses a free one, which is logged.", rich_help_panel=_PORT),
    ] = 50051,
    http_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Also answer HTTP with JSON on this port, which has a page to try it, too; 0 chooses a free one. Default: off.",
            show_default=False,
            rich_help_panel=_PORT,
        ),
    ] = None,
    http_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Pages of this origin, such as https://shop.example, may call over HTTP (CORS); repeatable, * is any.",
            show_default=False,
            rich_help_panel=_PORT,
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the port.", rich_help_panel=_PORT)] = 1,
    front: Annotated[
        Front,
        typer.Option(
            help="What speaks HTTP/2: gRPC's own server, or ours (new), which takes less CPU a call and refuses more cheaply.",
            rich_help_panel=_PORT,
        ),
    ] = Front.GRPC,
    drain_seconds: Annotated[
        float,
        typer.Option(min=0, help="How long calls in flight may take after SIGTERM.", rich_help_panel=_PORT),
    ] = 20.0,
    bundle: Annotated[
        str | None,
        typer.Option(help="Serve this bundle, whatever is promoted; default: follow `rf promote`.", show_default=False),
    ] = None,
    poll_seconds: Annotated[float, typer.Option(min=0.01, help="How often to look for what is promoted.")] = 1.0,
    tls_cert: Annotated[
        Path | None,
        typer.Option(help="Certificate chain (PEM).", envvar="RF_TLS_CERT", rich_help_panel=_PROTECTION),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="Its key (PEM).", envvar="RF_TLS_KEY", rich_help_panel=_PROTECTION)
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            help="Callers need a certificate signed by one of these (PEM).",
            envvar="RF_TLS_CLIENT_CA",
            rich_help_panel=_PROTECTION,
        ),
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(
            help="Callers need a token of this file; `rf token add` makes it.",
            envvar="RF_TOKENS",
            rich_help_panel=_PROTECTION,
        ),
    ] = None,
    require_signature: Annotated[
        Path | None,
        typer.Option(
            help="Serve only bundles that a key of this file (PEM) has signed; default: RF_REQUIRE_SIGNATURE.",
            show_default=False,
            rich_help_panel=_PROTECTION,
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Listen beyond this machine without TLS or tokens.", rich_help_panel=_PROTECTION
        ),
    ] = False,
    max_k: Annotated[int, typer.Option(min=1, help="Largest k a request may ask for.", rich_help_panel=_LIMITS)] = 1000,
    max_batch: Annotated[
        int, typer.Option(min=1, help="Most items or events of one request.", rich_help_panel=_LIMITS)
    ] = 1000,
    max_session: Annotated[
        int, typer.Option(min=1, help="Most interactions of a session.", rich_help_panel=_LIMITS)
    ] = 10_000,
    max_message_mib: Annotated[
        float, typer.Option(min=0.01, help="Largest request message, in MiB.", rich_help_panel=_LIMITS)
    ] = 4.0,
    deadline_seconds: Annotated[
        float, typer.Option(min=0.01, help="Most time for a call.", rich_help_panel=_LIMITS)
    ] = 10.0,
    keepalive_seconds: Annotated[
        float,
        typer.Option(
            min=1,
            help="Ask the other end of a silent connection whether it is still there after this long.",
            rich_help_panel=_LIMITS,
        ),
    ] = 60.0,
    min_ping_seconds: Annotated[
        float,
        typer.Option(
            min=0.001,
            help="How often clients may ping; those that do it more often are sent away.",
            rich_help_panel=_LIMITS,
        ),
    ] = 5.0,
    connection_idle_seconds: Annotated[
        float,
        typer.Option(min=1, help="Close a connection without a call after this long.", rich_help_panel=_LIMITS),
    ] = 1800.0,
    connection_age_seconds: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Close every connection after about this long, so that balancers spread callers anew; default: never.",
            show_default=False,
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    max_connections: Annotated[
        int,
        typer.Option(min=1, help="Connections that a worker holds at once; more are closed.", rich_help_panel=_LIMITS),
    ] = 4096,
    max_in_flight: Annotated[
        int,
        typer.Option(min=1, help="Calls that a worker answers at once; more are refused.", rich_help_panel=_LIMITS),
    ] = 128,
    max_pending: Annotated[
        int,
        typer.Option(
            min=1, help="Calls that may wait to be taken in by a worker; more are cancelled.", rich_help_panel=_LIMITS
        ),
    ] = 128,
    queue_ms: Annotated[
        float,
        typer.Option(min=0.1, help="Fewer are taken in while all wait longer than this.", rich_help_panel=_LIMITS),
    ] = 20.0,
    fetch_ms: Annotated[
        float,
        typer.Option(
            min=0.1, help="How long the online store may take; then the answer is degraded.", rich_help_panel=_SPEED
        ),
    ] = 50.0,
    batch_us: Annotated[
        float,
        typer.Option(min=0, help="How long a request may wait to be computed with others.", rich_help_panel=_SPEED),
    ] = 300.0,
    batch_most: Annotated[
        int, typer.Option(min=1, help="Most requests that are computed together.", rich_help_panel=_SPEED)
    ] = 32,
    rerank: Annotated[
        DefaultOrder | None,
        typer.Option(
            help="What orders the items that are found, for requests that do not say: the search (none), exact dot products, the "
            "re-ranker (lime), or the re-ranker where the bundle has one (auto); default: RF_RERANK, else auto.",
            show_default=False,
            rich_help_panel=_RANKING,
        ),
    ] = None,
    rerank_candidates: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help="How many items are found to be ordered so; default: RF_RERANK_CANDIDATES, else 1000.",
            show_default=False,
            rich_help_panel=_RANKING,
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Expose Prometheus metrics on this port; default: off.",
            show_default=False,
            rich_help_panel=_WATCHING,
        ),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(help="Address of the metrics, which need no token.", rich_help_panel=_WATCHING)
    ] = "127.0.0.1",
    log_share: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Record this share of the answers in the serving log, with the features they were made from; all while a "
            "challenger has a part of the users; default: RF_LOG_SHARE, else 0.",
            show_default=False,
            rich_help_panel=_WATCHING,
        ),
    ] = None,
    log_level: Annotated[
        str, typer.Option(help="debug, info (a line per call), warning or error.", rich_help_panel=_WATCHING)
    ] = "info",
) -> None:
    """Answer calls over gRPC from the promoted bundle, until SIGTERM or Ctrl-C: Retrieve, changes of the catalog, events.

    The bundle's checksums are verified first, and the feature store must still offer what the model was built from. What
    `rf promote`, `rf rollback` and `rf shadow` say is followed without a restart. Log lines are JSON on standard output; the one
    with "event": "serving" has the address. Everything else an operator needs is in docs/operations.md.
    """
    import os
    import sys

    # Before NumPy is imported: concurrent requests share the cores, and none is split over them.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

    from rf_platform.errors import UsageError
    from rf_platform.interrupts import end_with_parent
    from rf_platform.settings import get_settings
    from rf_serving.logs import LEVELS
    from rf_serving.server.options import Limits, ServeOptions
    from rf_serving.server.tls import TlsFiles

    end_with_parent()
    if log_level not in LEVELS:
        raise UsageError(f"--log-level={log_level!r} is no level; choose {', '.join(LEVELS)}")
    if (tls_cert is None) != (tls_key is None) or (tls_client_ca is not None and tls_cert is None):
        raise UsageError(
            "--tls-cert and --tls-key belong together, and --tls-client-ca needs both; give all that is meant"
        )
    options = ServeOptions(
        host=host,
        port=port,
        http_port=http_port,
        http_origins=tuple(http_origin or ()),
        workers=workers,
        front=front.value,
        bundle=bundle,
        poll_seconds=poll_seconds,
        limits=Limits(
            max_k=max_k,
            max_batch=max_batch,
            max_session=max_session,
            max_message_bytes=int(max_message_mib * 1024 * 1024),
        ),
        max_connections=max_connections,
        max_in_flight=max_in_flight,
        max_pending=max_pending,
        queue_seconds=queue_ms / 1000,
        deadline_seconds=deadline_seconds,
        keepalive_seconds=keepalive_seconds,
        min_ping_seconds=min_ping_seconds,
        connection_idle_seconds=connection_idle_seconds,
        connection_age_seconds=connection_age_seconds,
        fetch_seconds=fetch_ms / 1000,
        batch_most=batch_most,
        batch_seconds=batch_us / 1e6,
        drain_seconds=drain_seconds,
        metrics_host=metrics_host,
        metrics_port=metrics_port,
        tls=TlsFiles(certificate=tls_cert, key=tls_key, client_ca=tls_client_ca) if tls_cert and tls_key else None,
        tokens=tokens,
        insecure=insecure,
        log_level=log_level,
    )
    options.check()
    given = {
        "rerank": rerank,
        "rerank_candidates": rerank_candidates,
        "log_share": log_share,
        "require_signature": require_signature and require_signature.resolve(),
    }
    settings = get_settings().model_copy(update={name: value for name, value in given.items() if value is not None})
    if workers > 1:
        from rf_serving.server.supervisor import supervise

        code = supervise(settings, options)
    else:
        from rf_serving.server.process import run_alone

        code = run_alone(settings, options)
    # All is finished and logged. Unloading the libraries takes seconds, and a feature read that hangs would never let go.
    sys.stdout.flush()
    os._exit(code)
