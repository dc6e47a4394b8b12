"""``rf health``: ask a running server whether it serves, as probes of containers do."""

from typing import Annotated

import typer

from rf_platform.cli.options import SERVER, Address, Json

app = typer.Typer()


@app.command()
def health(
    address: Address = SERVER,
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds until the server counts as not serving.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Ask a server whether it serves, by gRPC's health service, which needs no token; exit code 1 if it does not.

    For probes that cannot speak TLS themselves: RF_TLS_CA, RF_TLS_CLIENT_CERT and RF_TLS_CLIENT_KEY are taken as by `rf query`.
    """
    from rf_platform.cli.console import print_json, say
    from rf_serving.client import RetrievalClient

    with RetrievalClient(address, timeout) as client:
        client.check_health()
    if as_json:
        print_json({"address": address, "status": "SERVING"})
    else:
        say(f"{address}: SERVING")
