"""The site: checks every request, finds its route, and answers with a page, a question, or what went wrong."""

from collections.abc import Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from rf_console.console import Console
from rf_console.web.failed_logins import FailedLogins
from rf_console.web.headers import SecurityHeaders
from rf_console.web.routes import Change, Endpoint, Page, Question, Room, Route
from rf_console.web.sessions import Session, Sessions
from rf_console.web.static_files import StaticFiles
from rf_console.web.templates import change_form, csrf_field, hidden_fields, make_environment
from rf_console.web.visit import Caller, Visit
from rf_platform.errors import RfError, UsageError
from rf_platform.failures import as_rf_error
from rf_serving.gateway.replies import HTTP_STATUSES
from rf_serving.server.authentication import Authentication, ForbiddenError
from rf_serving.server.options import is_own_name
from rf_serving.server.rpc import Role, without_places

_MOST_BYTES, _MOST_FIELDS = 1024 * 1024, 5000
_OWN_FIELDS = ("csrf", "confirmed", "edit", "token", "next")
"""Fields of forms that belong to the site."""
_LONGEST_LOGGED = 2000


class Site:
    """Answers requests.

    Args:
        console: what pages read from.
        rooms: the pages, in the order of the navigation.
    """

    def __init__(self, console: Console, rooms: Sequence[Room]) -> None:
        self.console, self._rooms = console, rooms
        options = console.options
        self.static = StaticFiles()
        self.sessions, self.failed_logins = Sessions(), FailedLogins()
        self._authentication = Authentication(options.tokens) if options.tokens is not None else None
        self._secure = options.tls is not None
        self._cookie = "__Host-rf-console" if self._secure else "rf-console"
        self._headers = SecurityHeaders(options.image_origins, tls=self._secure)
        self._environment = make_environment(self.static.addresses)
        self._log = structlog.get_logger("rf_console")

    # Every request

    async def answer(self, request: Request, route: Route) -> Response:
        """Answer a request to a route."""
        start, session = perf_counter(), self._session(request)
        try:
            self._check_host(request)
            caller = self._caller(request, session)
            if caller is None:
                there = request.url.path + (
                    f"?{request.url.query}" if request.method == "GET" and request.url.query else ""
                )
                return self._finished(self._login_page(session, there if request.method == "GET" else "/"), session)
            form = await self._form(request, session) if request.method == "POST" else []
            visit = Visit(
                self.console,
                caller,
                request.url.path,
                request.path_params,
                _pairs(request.url.query),
                form,
                partial="hx-request" in request.headers,
                render=lambda template, shown: self._environment.get_template(template).render(shown),
            )
            if not visit.may(route.role):
                if isinstance(route, Change):
                    await run_in_threadpool(self._note, visit, route, "refused", "the role does not reach")
                raise ForbiddenError(
                    f"your role is {caller.role.name.lower()}, and this needs {route.role.name.lower()}"
                )
            response = await run_in_threadpool(self._routed, visit, route, session)
        except Exception as error:
            if (known := as_rf_error(error)) is None:
                raise
            response = self._failed(request, session, known)
        response.headers["server-timing"] = f"page;dur={(perf_counter() - start) * 1000:.1f}"
        return self._finished(response, session)

    def _session(self, request: Request) -> Session:
        found = self.sessions.read(request.cookies.get(self._cookie, ""))
        return found if found is not None else self.sessions.new()

    def _check_host(self, request: Request) -> None:
        """Refuse names that are not ours, and forms of other sites."""
        options, host = self.console.options, request.headers.get("host", "")
        if options.local_only and not is_own_name(host, options.host):
            raise ForbiddenError(f"this console is not {host[:100]!r}; open it by its own address")
        origin = request.headers.get("origin")
        if request.method == "POST" and origin is not None and urlsplit(origin).netloc != host:
            raise ForbiddenError("the form was sent from another site")

    def _caller(self, request: Request, session: Session) -> Caller | None:
        address = request.client.host if request.client is not None else ""
        if self._authentication is None:
            return Caller("local", Role.ADMIN, address, "")
        token = self._authentication.find(session.secret) if session.secret else None
        return None if token is None else Caller(token.name, token.role, address, session.secret)

    async def _form(self, request: Request, session: Session) -> list[tuple[str, str]]:
        """Return the fields of a form that this session was given.

        Raises:
            UsageError: it is no form, or too large.
            ForbiddenError: it was not made for this session.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
            raise UsageError("this is no form: send application/x-www-form-urlencoded")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MOST_BYTES:
                raise UsageError(f"the form is larger than {_MOST_BYTES:,} bytes; send less at once")
        pairs = _pairs(body.decode("utf-8", "replace"))
        given = next((value for name, value in pairs if name == "csrf"), "")
        if not self.sessions.is_form_token(session, given):
            raise ForbiddenError("the form is out of date; go back, load the page again, and send it once more")
        return pairs

    def _finished(self, response: Response, session: Session) -> Response:
        self._headers.add(response.headers)
        response.set_cookie(
            self._cookie, self.sessions.cookie(session), path="/", httponly=True, samesite="strict", secure=self._secure
        )
        return response

    # Routes

    def _routed(self, visit: Visit, route: Route, session: Session) -> Response:
        if isinstance(route, Endpoint):
            return route.answer(visit)
        if isinstance(route, Page):
            shown = route.read(visit)
            return self._page(route.template, visit, session, {"title": route.title, "current": route.path, **shown})
        return self._change(visit, route, session)

    def _change(self, visit: Visit, route: Change, session: Session) -> Response:
        if visit.value("edit") == "yes" and route.form is not None:
            return self._routed(visit, route.form, session)
        if visit.value("confirmed") != "yes":
            try:
                question = route.ask(visit)
            except Exception as error:
                if (known := as_rf_error(error)) is None:
                    raise
                question = Question(
                    text=f"This cannot be done: {route.action}",
                    problem=self._words(known, visit.caller),
                    back=route.back,
                )
            given = [(name, value) for name, value in visit.form if name not in _OWN_FIELDS]
            return self._page(
                "question.html",
                visit,
                session,
                {
                    "title": "Confirm",
                    "current": "",
                    "question": question,
                    "given": hidden_fields(given),
                    "button": route.button,
                    "editable": route.form is not None,
                },
            )
        self._note(visit, route, "asked")
        try:
            done = route.make(visit)
        except Exception as error:
            self._note(visit, route, "failed", str(error))
            raise
        self._note(visit, route, "done", done.text)
        self.sessions.tell(session, done.text)
        return RedirectResponse(done.location, 303)

    def _note(self, visit: Visit, route: Change, outcome: str, detail: str = "") -> None:
        given = {name: value[:_LONGEST_LOGGED] for name, value in visit.form if name not in _OWN_FIELDS}
        self.console.audit.add(
            who=visit.caller.name,
            role=visit.caller.role.name.lower(),
            address=visit.caller.address,
            action=route.action,
            given={**visit.params, **given},
            outcome=outcome,
            detail=detail[:_LONGEST_LOGGED],
        )

    # Login

    async def log_in(self, request: Request) -> Response:
        """Answer the form of the login."""
        session, address = self._session(request), request.client.host if request.client else ""
        try:
            self._check_host(request)
            form = dict(await self._form(request, session))
        except RfError as error:
            return self._finished(self._failed(request, session, error), session)
        there = _own_path(form.get("next", "/"))
        if self._authentication is None:
            return self._finished(RedirectResponse("/", 303), session)
        if (seconds := self.failed_logins.wait(address)) > 0:
            page = self._login_page(session, there, f"too many attempts; try again in {seconds:.0f} s", 429)
            page.headers["retry-after"] = f"{seconds:.0f}"
            return self._finished(page, session)
        secret = form.get("token", "").strip()
        token = self._authentication.find(secret)
        if token is None:
            self.failed_logins.add(address)
            self._log.warning("login failed", address=address)
            return self._finished(self._login_page(session, there, "this token is not known here", 401), session)
        self._log.info("login", caller=token.name, address=address)
        return self._finished(RedirectResponse(there, 303), self.sessions.log_in(secret))

    async def log_out(self, request: Request) -> Response:
        """End a session."""
        session = self._session(request)
        try:
            self._check_host(request)
            await self._form(request, session)
        except RfError as error:
            return self._finished(self._failed(request, session, error), session)
        self.sessions.log_out(session)
        return self._finished(RedirectResponse("/", 303), self.sessions.new())

    # Pages

    async def not_found(self, request: Request, _: Exception) -> Response:
        """Answer a request to an address that does not exist."""
        session = self._session(request)
        wrong = 405 if request.method != "GET" else 404
        page = self._bare(session, {"title": "Not found", "message": "There is no such page."}, wrong)
        return self._finished(page, session)

    async def broken(self, request: Request, error: Exception) -> Response:
        """Answer a request that a bug has ended."""
        self._log.error("failed", path=request.url.path, exc_info=error)
        session = self._session(request)
        page = self._bare(session, {"title": "Failed", "message": "Internal error; the console's log has it."}, 500)
        return self._finished(page, session)

    def _failed(self, request: Request, session: Session, error: RfError) -> Response:
        caller = self._caller(request, session)
        message = self._words(error, caller)
        return self._bare(
            session, {"title": "Not possible", "message": message}, HTTP_STATUSES[error.grpc_status], caller
        )

    def _words(self, error: RfError, caller: Caller | None) -> str:
        """Return the message of an error; only an admin learns of files and hosts."""
        return str(error) if caller is not None and caller.role is Role.ADMIN else without_places(str(error))

    def _bare(self, session: Session, shown: Mapping[str, Any], status: int, caller: Caller | None = None) -> Response:
        return self._rendered("error.html", session, caller, {"current": "", "status": status, **shown}, status)

    def _login_page(self, session: Session, there: str, problem: str = "", status: int = 401) -> Response:
        shown = {"title": "Log in", "current": "", "next": there, "problem": problem}
        return self._rendered("login.html", session, None, shown, status)

    def _page(self, template: str, visit: Visit, session: Session, shown: Mapping[str, Any]) -> Response:
        told = [] if visit.partial else self.sessions.told(session)
        return self._rendered(template, session, visit.caller, {"told": told, "visit": visit, **shown})

    def _rendered(
        self, template: str, session: Session, caller: Caller | None, shown: Mapping[str, Any], status: int = 200
    ) -> Response:
        token = self.sessions.form_token(session)
        everywhere = {
            "told": [],
            "csrf_field": partial(csrf_field, token),
            "change_form": partial(change_form, token),
            "caller": caller,
            "roles": Role,
            "navigation": [page for room in self._rooms for page in room.listed],
            "workspace": self.console.name,
            "guarded": self._authentication is not None,
        }
        html = self._environment.get_template(template).render({**everywhere, **shown})
        return HTMLResponse(html, status)


def _pairs(text: str) -> list[tuple[str, str]]:
    """Return the fields of a query or a form.

    Raises:
        UsageError: there are too many.
    """
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise UsageError(f"there are more than {_MOST_FIELDS:,} fields; send less at once") from error


def _own_path(path: str) -> str:
    """Return a path of this site; anything that leads elsewhere becomes the first page."""
    parts = urlsplit(path)
    inside = path.startswith("/") and not path.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return path if inside and path.isprintable() else "/"
