"""Port of the gateway: connections of HTTP/1.1 from the first handshake to the drain."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from email.utils import formatdate
from time import monotonic
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from rf_serving.front.callers import Callers
from rf_serving.front.limits import FrontLimits
from rf_serving.front.listener import Listener
from rf_serving.gateway.connection import Connection
from rf_serving.gateway.gateway import Gateway

_CLOSING_SECONDS = 1.0


class GatewayPort:
    """Listens for HTTP/1.1, in plain text or over TLS. Make it inside the event loop.

    Args:
        limits: of every connection, and of all together.
        context: TLS; None: plain text.
        refused: called for every connection that is closed because there are too many.
    """

    config: Config

    def __init__(
        self, limits: FrontLimits, context: ssl.SSLContext | None, refused: Callable[[], object] = lambda: None
    ) -> None:
        self.limits, self.retired = limits, False
        self.state = ServerState()
        self.callers = Callers(limits, refused)
        self._listener = Listener(self.callers, lambda address: Connection(self, address), limits, context)
        self._ticking: asyncio.TimerHandle | None = None
        self._gateway: Gateway | None = None

    def bind(self, host: str, port: int, *, shared: bool) -> int:
        """Listen, and return the port; connections wait until :meth:`start`.

        Raises:
            OSError: an address is taken or not ours.
        """
        return self._listener.bind(host, port, shared=shared)

    def start(self, gateway: Gateway, origins: tuple[str, ...] = ()) -> None:
        """Begin to answer.

        Args:
            gateway: answers requests.
            origins: of pages that may call by script (CORS); ``*`` is any; none: only the server's own.
        """
        self._gateway = gateway
        application: Any = gateway
        if origins:
            from starlette.middleware.cors import CORSMiddleware

            application = CORSMiddleware(
                gateway,
                allow_origins=origins,
                allow_methods=("GET", "POST"),
                allow_headers=("authorization", "connect-protocol-version", "connect-timeout-ms", "x-request-id"),
                expose_headers=("x-request-id", "retry-after"),
            )
        self.config = Config(
            application,
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=logging.CRITICAL,  # what a client does wrong is told to the client
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=max(1, round(self.limits.idle_seconds)),
        )
        self.config.load()
        self._tick()
        self._listener.start()

    def retire(self) -> None:
        """Accept no more connections, and close those there are after the replies to what they have asked."""
        self.retired = True
        self._listener.close()
        for connection in self._connections():
            connection.retire()

    async def wait_until_answered(self) -> None:
        """Return when every request has its answer."""
        until = monotonic() + _CLOSING_SECONDS
        while self.state.tasks or (self._listener.opening and monotonic() < until):
            if self.state.tasks:
                await asyncio.wait(self.state.tasks)
            else:
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Close every connection, whatever is in flight."""
        self._listener.close()
        self._listener.abandon()
        # What has been answered is on its way out.
        until = monotonic() + _CLOSING_SECONDS
        for connection in self._connections():
            connection.retire()
        while self.state.connections and not self.state.tasks and monotonic() < until:
            await asyncio.sleep(0.01)
        for connection in self._connections():
            connection.close()
        for task in list(self.state.tasks):
            task.cancel()
        await asyncio.gather(*self.state.tasks, return_exceptions=True)
        if self._ticking is not None:
            self._ticking.cancel()
        if self._gateway is not None:
            self._gateway.close()

    def _connections(self) -> list[Connection]:
        return [each for each in self.state.connections if isinstance(each, Connection)]

    def _tick(self) -> None:
        now = monotonic()
        self.state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        for connection in self._connections():
            connection.check(now)
        self._ticking = asyncio.get_running_loop().call_later(self.limits.tick_seconds, self._tick)
