"""A console in a thread of this process, and a browser without JavaScript: cookies, forms, redirects."""

import asyncio
import os
import re
import shutil
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import pytest

from rf_console.options import ConsoleOptions
from rf_console.run import listen, make_server
from rf_platform.registry import Registry
from rf_platform.settings import Settings
from rf_serving.server.rpc import Role
from rf_serving.server.tokens import add_token

from ..conftest import REPOSITORY, RunningServer, running_server


@dataclass
class Form:
    """A form of a page."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    disabled: bool = False


class _Reader(HTMLParser):
    """Finds the forms of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._area = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", ""), given.get("method", "get")))
        elif not self.forms:
            return
        elif tag == "input" and given.get("name") and (given.get("type") != "checkbox" or "checked" in given):
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        elif tag == "textarea":
            self._area = given["name"]
            self.forms[-1].fields[self._area] = ""
        elif tag == "button" and "disabled" in given:
            self.forms[-1].disabled = True

    def handle_data(self, data: str) -> None:
        if self._area:
            self.forms[-1].fields[self._area] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._area = ""


@dataclass
class Shown:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def words(self) -> str:
        """What a reader sees: without markup."""
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", self.text)).split())

    @property
    def forms(self) -> list[Form]:
        return _Reader(self.text).forms

    def form(self, action: str, **fields: str) -> Form:
        """The form with this action and these fields."""
        found = [f for f in self.forms if f.action == action and fields.items() <= f.fields.items()]
        assert found, f"{action} {fields} is not among {[(f.action, f.fields) for f in self.forms]}"
        return found[0]


class Browser:
    """Keeps the cookie of one console, and runs no script."""

    def __init__(self, port: int, trusted: Path | None = None) -> None:
        """``trusted``: certificate of the console; None: it speaks no TLS."""
        self.port, self.cookies, self.trusted = port, dict[str, str](), trusted

    def _connection(self) -> HTTPConnection:
        if self.trusted is None:
            return HTTPConnection("127.0.0.1", self.port, timeout=60)
        return HTTPSConnection(
            "127.0.0.1", self.port, timeout=60, context=ssl.create_default_context(cafile=str(self.trusted))
        )

    def ask(self, verb: str, path: str, body: bytes | None = None, /, **headers: str) -> Shown:
        connection = self._connection()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            sent.setdefault("cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        try:
            connection.request(verb, path, body, sent)
            reply = connection.getresponse()
            for name, value in reply.getheaders():
                if name.lower() == "set-cookie":
                    key, _, rest = value.partition("=")
                    self.cookies[key] = rest.partition(";")[0]
            return Shown(reply.status, {n.lower(): v for n, v in reply.getheaders()}, reply.read(), path)
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Shown:
        return self.ask("GET", path, **headers)

    def post(self, path: str, fields: Mapping[str, str], *, follow: bool = True, **headers: str) -> Shown:
        body = urlencode(fields).encode()
        kind: dict[str, Any] = {"content_type": "application/x-www-form-urlencoded", **headers}
        answer = self.ask("POST", path, body, **kind)
        return self.get(answer.headers["location"]) if follow and answer.status == 303 else answer

    def send(self, form: Form, **fields: str) -> Shown:
        assert form.method == "post"
        return self.post(form.action, {**form.fields, **fields})

    def confirm(self, question: Shown) -> Shown:
        """Say yes."""
        form = next(form for form in question.forms if form.fields.get("confirmed") == "yes")
        assert not form.disabled, question.words
        return self.send(form)

    def log_in(self, secret: str) -> Shown:
        return self.send(self.get("/").form("/login"), token=secret)


@contextmanager
def running_console(settings: Settings, **options: Any) -> Iterator[int]:
    """Run a console; gives its port."""
    with listen("127.0.0.1", 0) as listening:
        server = make_server(settings, ConsoleOptions(port=0, **options))
        thread = Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])), name="console")
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    return found


@pytest.fixture(scope="session")
def browser_modules() -> str:
    """A folder where ``npm install playwright-core axe-core`` was run."""
    found = os.environ.get("RF_TEST_NODE_MODULES")
    if shutil.which("node") is None or found is None or not Path(found, "playwright-core").is_dir():
        pytest.skip("needs node and RF_TEST_NODE_MODULES: the node_modules of npm install playwright-core axe-core")
    return found


@pytest.fixture(scope="session")
def start_console() -> Callable[..., Any]:
    """Run a console: ``with start_console(settings, tokens=...) as port``."""
    return running_console


@pytest.fixture(scope="module")
def two_bundles(
    home: Path, tmp_path_factory: pytest.TempPathFactory, copy_workspace: Callable[[Path, Path], Path]
) -> Settings:
    """A workspace of the module's own with a second bundle, ``next``, of the same run."""
    root = copy_workspace(home, tmp_path_factory.mktemp("two-bundles") / "home")
    settings = Settings(home=root, feature_repo=REPOSITORY)
    registry = Registry.of(settings)
    first = registry.bundle("tiny-run-1")
    copy_workspace(first.path, root / "bundles" / "next")
    registry.record_bundle(
        name="next",
        run=first.run,
        path=root / "bundles" / "next",
        manifest_sha256=first.manifest_sha256,
        spec_hash=first.spec_hash,
        metrics={"recall@20": 0.25},
    )
    return settings


@pytest.fixture(scope="session")
def served(settings: Settings, home: Path) -> Iterator[RunningServer]:
    """A server on the workspace that is not changed."""
    with running_server(settings) as running:
        yield running


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A token of each role, by the role's name, and the file of all under ``file``."""
    path = tmp_path_factory.mktemp("tokens") / "tokens.json"
    return {"file": str(path), **{role.name.lower(): add_token(path, f"a-{role.name.lower()}", role) for role in Role}}


@pytest.fixture(scope="session")
def open_port(settings: Settings, served: RunningServer) -> Iterator[int]:
    """Port of a console without tokens, beside the server."""
    with running_console(settings, address=served.server.address) as port:
        yield port


@pytest.fixture(scope="session")
def guarded_port(settings: Settings, served: RunningServer, secrets: dict[str, str]) -> Iterator[int]:
    """Port of a console with tokens, beside the server."""
    with running_console(settings, address=served.server.address, tokens=Path(secrets["file"])) as port:
        yield port


@pytest.fixture
def browser(open_port: int) -> Browser:
    """A browser in front of the open console."""
    return Browser(open_port)


@pytest.fixture
def visitor(guarded_port: int) -> Browser:
    """A browser in front of the console with tokens; nobody has logged in."""
    return Browser(guarded_port)
