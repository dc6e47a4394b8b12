"""Options of a server, and the limits of what requests may ask for."""

import socket
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from rf_platform.errors import ConfigError, TooManyError, UsageError
from rf_serving.server.tls import TlsFiles


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one server process; what a request may ask for is checked by the servicers, which name the limit."""

    max_k: int = 1000
    """Largest ``k`` of a Retrieve."""
    max_batch: int = 1000
    """Most items or events in one request."""
    max_session: int = 10_000
    """Most interactions in a session's history."""
    max_message_bytes: int = 4 * 1024 * 1024
    """Largest request message; a larger one is refused with RESOURCE_EXHAUSTED before it is read."""

    def check_batch(self, field: str, count: int) -> None:
        """Check the number of items or events in a request.

        Raises:
            UsageError: there are none; the message begins with ``field``.
            TooManyError: there are more than :attr:`max_batch`.
        """
        if count == 0:
            raise UsageError(f"{field}: must not be empty")
        if count > self.max_batch:
            raise TooManyError(
                f"{field}: {count} are given, and a request may have {self.max_batch} (--max-batch); split it",
                self.max_batch,
            )


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """All settings of ``rf serve``; plain values, since they travel to worker processes."""

    host: str = "127.0.0.1"
    port: int = 50051
    """0 chooses a free one."""
    front: Literal["grpc", "http2"] = "grpc"
    """Implementation of HTTP/2: gRPC's own server, or ours."""
    http_port: int | None = None
    """Port of HTTP with JSON; None: not offered, 0 chooses a free one."""
    http_origins: tuple[str, ...] = ()
    """Origins of pages that may call over HTTP by script; ``*`` is any."""
    workers: int = 1
    """Processes that share the port."""
    bundle: str | None = None
    """Name of the bundle to serve whatever is promoted; None: follow the registry."""
    poll_seconds: float = 1.0
    """Interval at which the registry is polled."""
    limits: Limits = field(default_factory=Limits)
    max_in_flight: int = 128
    """Calls that a process answers at once, at most."""
    max_pending: int = 128
    """Calls of a method that gRPC holds until a process takes them in; more are ended with CANCELLED."""
    queue_seconds: float = 0.02
    """Queueing delay above which fewer calls are accepted."""
    deadline_seconds: float = 10.0
    """Most time for a call; less where the caller says so."""
    keepalive_seconds: float = 60.0
    """Silence of a connection after which a keepalive ping is sent."""
    min_ping_seconds: float = 5.0
    """Shortest interval of clients' pings; a client that pings more often is disconnected."""
    connection_idle_seconds: float = 1800.0
    """Time without a call after which a connection is closed."""
    max_connections: int = 4096
    """Connections that a process holds at once."""
    connection_age_seconds: float | None = None
    """Lifetime of a connection, after which balancers redistribute callers; None: no limit."""
    fetch_seconds: float = 0.05
    """Time limit of the online store; beyond it the answer is degraded."""
    batch_most: int = 32
    """Most requests that are encoded and searched together."""
    batch_seconds: float = 300e-6
    """Longest wait of a request for its batch."""
    drain_seconds: float = 20.0
    """Time for calls in flight after a signal."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    """Port of the Prometheus metrics; None: not exposed, 0 chooses a free one."""
    tls: TlsFiles | None = None
    tokens: Path | None = None
    """File of the tokens that callers need; None: they need none."""
    insecure: bool = False
    """Serve others than this machine without TLS or tokens."""
    log_level: str = "info"

    @property
    def local_only(self) -> bool:
        """Whether nothing but this machine's own address protects the server."""
        return self.tokens is None and not self.insecure and is_loopback(self.host)

    def check(self) -> None:
        """Refuse to be open to others by accident.

        Raises:
            ConfigError: the address is not loopback, and TLS or tokens are missing.
            UsageError: the host has no address, the two ports are one, or there are origins and no port.
        """
        if self.http_port is not None and self.http_port == self.port != 0:
            raise UsageError(f"--http-port {self.http_port} is the port of gRPC, too; choose another one")
        if self.http_origins and self.http_port is None:
            raise UsageError("--http-origin is for calls over HTTP, and there is no --http-port; give one")
        check_exposure(self.host, tls=self.tls is not None, tokens=self.tokens is not None, insecure=self.insecure)


def check_exposure(host: str, *, tls: bool, tokens: bool, insecure: bool) -> None:
    """Refuse an address that others can reach, unless callers are kept apart.

    Args:
        host: address to listen on.
        tls: whether connections are encrypted.
        tokens: whether callers need a token.
        insecure: whether that was said to be fine.

    Raises:
        ConfigError: the address is not loopback, and TLS or tokens are missing.
        UsageError: the host has no address.
    """
    if insecure or is_loopback(host):
        return
    missing = [
        *([] if tls else ["TLS (--tls-cert FILE --tls-key FILE)"]),
        *([] if tokens else ["tokens (--tokens FILE, made by `rf token add`)"]),
    ]
    if missing:
        raise ConfigError(
            f"--host {host} can be reached by others, and there is no {' and no '.join(missing)}; add what is missing, "
            f"listen on 127.0.0.1, or say --insecure if a proxy or the network protects this port"
        )


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address.

    Raises:
        UsageError: the host has no address.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), None)
    except OSError as error:
        raise UsageError(
            f"--host {host} has no address: {error.strerror}; give a name or an address of this machine"
        ) from error
    return all(ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


def is_own_name(host: str, own: str) -> bool:
    """Say whether a ``Host`` is this machine by its own address.

    Without tokens, a page of another site could call a server that only this machine reaches, if its name were made to lead
    here (DNS rebinding).

    Args:
        host: the header, with or without a port.
        own: address that the server listens on.
    """
    name = host.rpartition(":")[0] if host.rpartition("]")[2].count(":") else host
    name = name.strip("[]").lower()
    if name in ("", "localhost", own.lower()):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
