"""Connections of a front by the address they come from: how many there may be, and which of them give way."""

import socket
from collections.abc import Callable
from typing import Protocol

from rf_serving.front.limits import FrontLimits

_RELIEVED = 0.9


class Guest(Protocol):
    """Connection, from the moment it was accepted."""

    address: str
    weight: int
    """Bytes of messages that are held for it."""

    def __hash__(self) -> int:
        """Tell connections apart."""

    def need(self) -> int:
        """Return how much would be lost with it: 0 for nothing yet, 1 for no call, 2 for streams alone, 3 for calls."""

    def give_way(self, reason: str) -> None:
        """Close at once; further calls of the client are safe to be made elsewhere."""


class Callers:
    """Counts connections, calls and bytes of a whole front, and shares them between connections and addresses.

    At the limit a new connection is refused, unless another address has more connections than its own: then the oldest of that
    address that is needed least gives way, if no call is lost by that.

    Args:
        limits: of the front.
        refused: called for every connection that is closed because there are too many.
    """

    def __init__(self, limits: FrontLimits, refused: Callable[[], object]) -> None:
        self._limits, self._refused = limits, refused
        self._of: dict[str, dict[Guest, None]] = {}
        self.connections = self.calls = self.relays = self.bytes = 0

    def enter(self, guest: Guest) -> bool:
        """Take a connection in; False: there are too many."""
        if self.connections >= self._limits.connections and not self._make_room(guest.address):
            self._refused()
            return False
        self._of.setdefault(guest.address, {})[guest] = None
        self.connections += 1
        return True

    def leave(self, guest: Guest) -> None:
        """Note that a connection is closed; once is enough."""
        guests = self._of.get(guest.address, {})
        if guest in guests:
            del guests[guest]
            self.connections -= 1
            if not guests:
                del self._of[guest.address]

    def may_call(self, has: int) -> bool:
        """Say whether a connection with so many calls may have another one."""
        return self.calls < self._limits.all_calls or has < self._share(self._limits.all_calls)

    def may_relay(self, has: int) -> bool:
        """Say whether a connection with so many streaming calls may have another one."""
        return self.relays < self._limits.all_relays or has < self._share(self._limits.all_relays)

    def too_heavy(self) -> bool:
        """Say whether more bytes are held than may be."""
        return self.bytes > self._limits.all_bytes

    def relieve(self) -> None:
        """Close the heaviest connections of the heaviest address until a tenth of the bytes that may be held is free."""
        most = self._limits.all_bytes * _RELIEVED
        while self.bytes > most and self._of:
            heaviest = max(self._of.values(), key=lambda guests: sum(guest.weight for guest in guests))
            for guest in sorted(heaviest, key=lambda guest: guest.weight, reverse=True):
                if self.bytes <= most:
                    break
                guest.give_way("too many bytes of messages that are not complete or not taken")
                self.leave(guest)

    def _share(self, limit: int) -> int:
        return max(1, limit // max(1, self.connections))

    def _make_room(self, address: str) -> bool:
        most = max(self._of.values(), key=len)
        if len(most) <= len(self._of.get(address, ())) + 1:
            return False
        least = min(most, key=lambda guest: guest.need())
        if least.need() > 2:
            return False
        self._refused()
        self.leave(least)
        least.give_way("too many connections")
        return True


def address_of(peer: tuple[str, ...]) -> str:
    """Return what stands for the owner of an address: of IPv6 the network of 64 bits, since every host may choose the rest."""
    host = peer[0].partition("%")[0]
    if ":" not in host or host.startswith("::ffff:"):
        return host
    return socket.inet_pton(socket.AF_INET6, host)[:8].hex()
