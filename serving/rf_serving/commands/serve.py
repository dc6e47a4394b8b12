"""``rf serve``: answer gRPC calls."""

from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 chooses a free one, which is logged.")] = 50051,
    bundle: Annotated[
        str | None, typer.Option(help="Bundle to serve; default: the promoted one.", show_default=False)
    ] = None,
    max_k: Annotated[int, typer.Option(min=1, help="Largest k a request may ask for.")] = 1000,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="How long calls in flight may take after SIGTERM.")
    ] = 20.0,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Expose Prometheus metrics on this port; default: off.", show_default=False
        ),
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info (a line per call), warning or error.")] = "info",
) -> None:
    """Answer retrievalformer.v1.RetrievalService/Retrieve from the promoted bundle, until SIGTERM or Ctrl-C.

    The bundle's checksums are verified first, and the feature store must still offer what the model was built from. Log
    lines are JSON on standard output; the one with "event": "serving" has the address.
    """
    import asyncio
    import os
    import sys

    from rf_platform.errors import UsageError
    from rf_platform.settings import get_settings
    from rf_serving.server.logs import LEVELS, configure_logs

    if log_level not in LEVELS:
        raise UsageError(f"--log-level={log_level!r} is no level; choose {', '.join(LEVELS)}")
    from rf_serving.server.serve import ServeOptions
    from rf_serving.server.serve import serve as run

    configure_logs(log_level)
    options = ServeOptions(
        host=host, port=port, bundle=bundle, max_k=max_k, drain_seconds=drain_seconds, metrics_port=metrics_port
    )
    asyncio.run(run(get_settings(), options))
    # All is finished and logged. Unloading the libraries takes seconds, and a feature read that hangs would never let go.
    sys.stdout.flush()
    os._exit(0)
