"""The console as a process: uvicorn around the application."""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress

from uvicorn import Config, Server

from rf_console.app import make_app
from rf_console.console import Console
from rf_console.options import ConsoleOptions
from rf_platform.cli.console import say
from rf_platform.errors import UsageError
from rf_platform.settings import Settings
from rf_serving.server.shared_port import joined
from rf_serving.server.tls import ServerCertificates

_DRAIN_SECONDS = 2
_CONNECTIONS = 512


def make_server(settings: Settings, options: ConsoleOptions) -> Server:
    """Return the server of a console.

    Raises:
        RfError: the workspace, the tokens or the certificates cannot be used.
    """
    certificates = ServerCertificates(options.tls) if options.tls is not None else None
    config = Config(
        make_app(Console(settings, options)),
        http="httptools",
        ws="none",
        interface="asgi3",
        log_config=None,
        log_level=logging.CRITICAL,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        ssl_context_factory=(lambda *_: certificates.context("http/1.1")) if certificates is not None else None,
    )
    return Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        UsageError: the address is taken or not ours.
    """
    try:
        family = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        raise UsageError(f"{joined(host, port)} cannot be listened on: {error}; choose another --port") from error
    # Connections inherit it. Else the body of a page waits until the browser has acknowledged the head, for 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def serve_console(
    settings: Settings, options: ConsoleOptions, told: Callable[[str], None] = lambda url: say(f"console at {url}")
) -> None:
    """Answer until a signal comes.

    Args:
        settings: of the workspace.
        options: of the console.
        told: called with the address.
    """
    server = make_server(settings, options)
    with listen(options.host, options.port) as listening:
        scheme = "https" if options.tls is not None else "http"
        told(f"{scheme}://{joined(options.host, listening.getsockname()[1])}/")
        with suppress(KeyboardInterrupt):
            asyncio.run(server.serve(sockets=[listening]))
