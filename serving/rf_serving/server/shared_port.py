"""A port that several processes of one server listen on, and addresses as text."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rf_platform.errors import UsageError


def joined(host: str, port: int) -> str:
    """Return ``host:port``; an IPv6 host, with or without brackets, gets brackets: ``[::1]:50051``."""
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def check_free(host: str, port: int, option: str = "--port") -> None:
    """Check that no process listens on a port, not even one that would share it.

    Args:
        host: to listen on.
        port: to listen on.
        option: that gave the port.

    Raises:
        UsageError: the address is taken or not ours.
    """
    with explained(host, port, option), _socket(host, port) as (probe, address):
        probe.bind(address)
        probe.listen()


@contextmanager
def shared_port(host: str, port: int, option: str = "--port") -> Iterator[int]:
    """Hold a port for processes that share it (``SO_REUSEPORT``), and give its number; 0 chooses a free one.

    The kernel hands each new connection to one of the listeners; this process is none. Another server is refused the port,
    and this one is, where another server has it already.

    Raises:
        UsageError: the address is taken or not ours.
    """
    if port:
        check_free(host, port, option)
    with explained(host, port, option), _socket(host, port) as (held, address):
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
        yield int(held.getsockname()[1])


@contextmanager
def _socket(host: str, port: int) -> Iterator[tuple[socket.socket, Any]]:
    family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, socket.SOCK_STREAM) as opened:
        # Connections of an earlier server that linger do not count.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # as gRPC binds ::
        yield opened, address


@contextmanager
def explained(host: str, port: int, option: str = "--port") -> Iterator[None]:
    """Say of an address that cannot be bound what to change.

    Raises:
        UsageError: it cannot be bound.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"the address {joined(host, port)} cannot be bound: it is in use or not this machine's; choose another --host or "
            f"{option}"
        ) from error
