"""The application: the site's pages at their addresses."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route as Address

from rf_console.console import Console
from rf_console.pages import ROOMS
from rf_console.web.routes import Change, Route
from rf_console.web.site import Site


def make_app(console: Console) -> Starlette:
    """Return the application (ASGI) of a console."""
    site = Site(console, ROOMS)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        console.warm()
        yield
        console.close()

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("ok")

    addresses = [
        Address("/healthz", healthy),
        Address("/login", site.log_in, methods=["POST"]),
        Address("/logout", site.log_out, methods=["POST"]),
        Address("/static/{name}", site.static.answer),
        *(
            Address(route.path, partial(_answer, site, route), methods=["POST" if isinstance(route, Change) else "GET"])
            for room in ROOMS
            for route in room.routes
        ),
    ]
    handlers: dict[Any, Any] = {404: site.not_found, 405: site.not_found, Exception: site.broken}
    app = Starlette(routes=addresses, exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False
    return app


async def _answer(site: Site, route: Route, request: Request) -> Response:
    return await site.answer(request, route)
