"""Kinds of addresses: pages, changes and endpoints."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from rf_console.web.visit import Visit
from rf_serving.server.rpc import Role


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page: what is read for it, and the template that shows it."""

    path: str
    """Address, as Starlette writes them: ``/runs/{name}``."""
    title: str
    template: str
    read: Callable[[Visit], Mapping[str, Any]]
    """Returns what the template shows."""
    role: Role = Role.READ
    listed: bool = True
    """Whether the navigation has it."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked before a change is made."""

    text: str
    """The question, such as "Promote bundle b-2?"."""
    notes: Sequence[str] = ()
    """What follows from the change, what was checked, what is worth knowing."""
    problem: str = ""
    """Why the change cannot be made: the button does not work then."""
    back: str = "/"
    """Where "no" leads."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A change that was made."""

    text: str
    """What became of it."""
    location: str
    """The page that shows it."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of the platform: a POST is answered by a question, and by the change once it is confirmed."""

    path: str
    action: str
    """Name in the audit log, such as ``promote``."""
    role: Role
    ask: Callable[[Visit], Question]
    make: Callable[[Visit], Done]
    button: str = "Yes"
    back: str = "/"
    """The page that "no" leads to where the question cannot even be asked."""
    form: Page | None = None
    """The page with the form, which can be shown again with what was filled in."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An address that is answered by something other than a page of the console, to a GET."""

    path: str
    answer: Callable[[Visit], Response]
    role: Role = Role.READ


Route = Page | Change | Endpoint


@dataclass(frozen=True)
class Room:
    """The routes of one part of the navigation."""

    routes: Sequence[Route] = field(default_factory=tuple)

    @property
    def listed(self) -> list[Page]:
        """Pages of the navigation."""
        return [route for route in self.routes if isinstance(route, Page) and route.listed]
