"""A visit: one request of a browser, as pages see it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from rf_console.catalog_index import CatalogIndex
from rf_console.console import Console
from rf_platform.errors import UsageError
from rf_platform.registry import BundleRecord
from rf_serving.client import RetrievalClient
from rf_serving.server.rpc import Role

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Caller:
    """The person in front of the browser."""

    name: str
    role: Role
    address: str
    secret: str
    """Token; empty where nobody has to log in."""


class Visit:
    """A request after all checks.

    Args:
        console: what pages read from.
        caller: who asks.
        path: of the address.
        params: parts of the path, by their names in the route.
        query: pairs behind the question mark.
        form: pairs of the form that was sent.
        partial: only the part of the page is wanted that has changed (htmx).
        render: fills a template that is no page.
    """

    def __init__(
        self,
        console: Console,
        caller: Caller,
        path: str,
        params: Mapping[str, str],
        query: Pairs,
        form: Pairs = (),
        *,
        partial: bool = False,
        render: Callable[[str, Mapping[str, Any]], str] | None = None,
    ) -> None:
        self.console, self.caller, self.path, self.params = console, caller, path, params
        self.query, self.form, self.partial = list(query), list(form), partial
        self._render = render

    def render(self, template: str, shown: Mapping[str, Any]) -> str:
        """Return a template that is no page, filled."""
        assert self._render is not None
        return self._render(template, shown)

    def may(self, role: Role) -> bool:
        """Say whether the caller's role reaches."""
        return self.caller.role >= role

    def value(self, name: str, default: str = "") -> str:
        """Return the last value of a field, of the form or else of the query, without spaces around it."""
        return next((value for key, value in reversed([*self.query, *self.form]) if key == name), default).strip()

    def values(self, name: str) -> list[str]:
        """Return all values of a field that are not empty."""
        return [value.strip() for key, value in [*self.query, *self.form] if key == name and value.strip()]

    def whole(self, name: str, default: int, least: int = 1, most: int = 1_000_000) -> int:
        """Return a field as a whole number.

        Raises:
            UsageError: it is none, or out of bounds.
        """
        text = self.value(name)
        if not text:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
            raise UsageError(f"{name}={text[:40]!r} is not possible; give a whole number from {least:,} to {most:,}")
        return int(text)

    def number(self, name: str, least: float, most: float) -> float:
        """Return a field as a number.

        Raises:
            UsageError: it is none, or out of bounds.
        """
        text = self.value(name)
        try:
            found = float(text)
        except ValueError:
            found = float("nan")
        if not least <= found <= most:
            raise UsageError(f"{name}={text[:40]!r} is not possible; give a number from {least:g} to {most:g}")
        return found

    def needed(self, name: str) -> str:
        """Return a field that must not be empty.

        Raises:
            UsageError: it is.
        """
        if not (text := self.value(name)):
            raise UsageError(f"{name} is missing; fill it in")
        return text

    def url(self, **changes: object) -> str:
        """Return the address of this page with some fields of the query changed; None leaves one out."""
        kept = [(name, value) for name, value in self.query if name not in changes and value]
        added = [(name, str(value)) for name, value in changes.items() if value not in (None, "")]
        return f"{self.path}?{urlencode([*kept, *added])}" if kept or added else self.path

    @cached_property
    def catalog(self) -> tuple[BundleRecord, CatalogIndex]:
        """The active bundle and the index of its catalog.

        Raises:
            NotFoundError: no bundle is promoted.
            UnavailableError: the index is being built.
        """
        return self.console.catalogs.active()

    @cached_property
    def client(self) -> RetrievalClient:
        """Client of the server, with the caller's token."""
        return self.console.client(self.caller.secret)
