"""``rf console``: the platform in the browser."""

from pathlib import Path
from typing import Annotated

import typer

from rf_platform.cli.options import SERVER, Address

app = typer.Typer()
_PROTECTION = "Protection"


@app.command()
def console(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 or :: for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 chooses a free one, which is said.")] = 8090,
    address: Address = SERVER,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="URL of the server's metrics, for rates and latencies: http://127.0.0.1:9090/metrics of "
            "`rf serve --metrics-port 9090`.",
            envvar="RF_METRICS_URL",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="Images of items may be loaded from this origin, such as https://images.shop.example; repeatable.",
            show_default=False,
        ),
    ] = None,
    image_files: Annotated[
        Path | None,
        typer.Option(
            help="Images of items that are no URL are files below this directory: their paths begin at it.",
            show_default=False,
        ),
    ] = None,
    feast_ui: Annotated[
        str | None,
        typer.Option(
            help="URL of Feast's own pages (`feast ui`), for a link beside the features: http://127.0.0.1:8888.",
            show_default=False,
        ),
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(
            help="People log in with a token of this file, best that of the server; `rf token add` makes it.",
            envvar="RF_TOKENS",
            rich_help_panel=_PROTECTION,
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain (PEM).", envvar="RF_TLS_CERT", rich_help_panel=_PROTECTION)
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="Its key (PEM).", envvar="RF_TLS_KEY", rich_help_panel=_PROTECTION)
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Listen beyond this machine without TLS or tokens.", rich_help_panel=_PROTECTION
        ),
    ] = False,
) -> None:
    """Show the workspace and the server beside it in the browser, until SIGTERM or Ctrl-C.

    What is served and how it does, the catalog, answers for users with their reasons, features, lineage, runs, deployments.
    Everything is read from the registry of the workspace and asked of the server at --address; pages that need a server say so.

    With --tokens people log in, and a token's role decides: read sees, write also changes items and policies, admin also
    promotes. Calls to the server are made with the token of the person. Without it the console listens on this machine alone, and
    everybody on it may do everything. Each change is asked for once more, and noted in console/audit.jsonl of the workspace.

    [bold]Examples[/]

        rf console
        rf console --metrics http://127.0.0.1:9090/metrics
        rf console --host 0.0.0.0 --tokens tokens.json --tls-cert cert.pem --tls-key key.pem
    """
    import os

    # Before NumPy is imported: the console leaves the cores to the server beside it.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

    from rf_console.options import ConsoleOptions
    from rf_console.run import serve_console
    from rf_platform.errors import UsageError
    from rf_platform.settings import get_settings
    from rf_serving.server.tls import TlsFiles

    if (tls_cert is None) != (tls_key is None):
        raise UsageError("--tls-cert and --tls-key belong together; give both")
    options = ConsoleOptions(
        host=host,
        port=port,
        address=address,
        metrics_url=metrics,
        tokens=tokens,
        tls=TlsFiles(certificate=tls_cert, key=tls_key) if tls_cert and tls_key else None,
        insecure=insecure,
        image_origins=tuple(images or ()),
        image_files=image_files,
        feast_ui=feast_ui,
    )
    options.check()
    serve_console(get_settings(), options)
