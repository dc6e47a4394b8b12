"""Sessions, roles, forms and headers of the console."""

import socket
from pathlib import Path

import pytest

from rf_console.options import ConsoleOptions
from rf_console.pages import ROOMS
from rf_console.run import listen
from rf_console.web.failed_logins import FailedLogins
from rf_console.web.routes import Change, Endpoint, Page
from rf_console.web.sessions import Sessions
from rf_platform.errors import ConfigError, UsageError
from rf_platform.settings import Settings
from rf_serving.server.rpc import Role

from .conftest import Browser, running_console

CHANGES = [route for room in ROOMS for route in room.routes if isinstance(route, Change)]
ADDRESSES = {
    "/item": "/item?id=17",
    "/item/audience": "/item/audience?id=17&users=3",
    "/item/edit": "/item/edit?id=17",
    "/feature": "/feature?name=item_attributes__genres",
    "/runs/{name}": "/runs/tiny-run",
}
"""Addresses of pages that need to know of what."""
NO_PAGES = ("/overview/live", "/item/image")
PLAIN = [
    (ADDRESSES.get(route.path, route.path), route)
    for room in ROOMS
    for route in room.routes
    if isinstance(route, Page | Endpoint)
    and ("{" not in route.path or route.path in ADDRESSES)
    and route.path not in NO_PAGES
]


def test_without_a_token_there_is_only_the_login(visitor: Browser) -> None:
    for path, _ in PLAIN:
        shown = visitor.get(path)
        assert shown.status == 401
        assert [form.action for form in shown.forms] == ["/login"]
        assert "tiny-run" not in shown.text.replace(path, "")


@pytest.mark.parametrize("role", list(Role))
def test_every_page_by_role(visitor: Browser, secrets: dict[str, str], role: Role) -> None:
    assert visitor.log_in(secrets[role.name.lower()]).status == 200
    for path, route in PLAIN:
        assert visitor.get(path).status == (200 if role >= route.role else 403), path


@pytest.mark.parametrize("role", [Role.READ, Role.WRITE])
def test_changes_by_role(visitor: Browser, secrets: dict[str, str], role: Role) -> None:
    csrf = visitor.log_in(secrets[role.name.lower()]).form("/logout").fields["csrf"]
    for change in CHANGES:
        if role < change.role:
            answer = visitor.post(change.path.replace("{name}", "x"), {"csrf": csrf, "confirmed": "yes"})
            assert answer.status == 403, change.path


def test_the_login_leads_to_where_one_wanted_to_go(visitor: Browser, secrets: dict[str, str]) -> None:
    form = visitor.get("/?q=1").form("/login")
    assert form.fields["next"] == "/?q=1"
    for there in ("//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"):
        answer = visitor.post("/login", {**form.fields, "token": secrets["read"], "next": there}, follow=False)
        assert (answer.status, answer.headers["location"]) == (303, "/")
        form = visitor.send(visitor.get("/").form("/logout")).form("/login")


def test_the_session_of_a_login_is_a_new_one_and_ends(visitor: Browser, secrets: dict[str, str]) -> None:
    visitor.get("/")
    before = dict(visitor.cookies)
    visitor.log_in(secrets["read"])
    logged_in = dict(visitor.cookies)
    assert logged_in != before
    assert secrets["read"] not in str(logged_in)
    visitor.send(visitor.get("/").form("/logout"))
    visitor.cookies = logged_in
    assert visitor.get("/").status == 401


def test_a_forged_cookie_is_none(visitor: Browser, secrets: dict[str, str]) -> None:
    visitor.log_in(secrets["read"])
    ((name, value),) = visitor.cookies.items()
    visitor.cookies = {name: value[:-1] + ("0" if value[-1] != "0" else "1")}
    assert visitor.get("/").status == 401


def test_cookies_and_headers(browser: Browser) -> None:
    answer = browser.get("/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    for path, _ in PLAIN:
        text = browser.get(path).text
        assert " style=" not in text, path
        assert " onclick=" not in text, path
        assert text.count("<script") == text.count("<script src="), path
        assert "http://" not in text.replace("http://127.0.0.1", "").replace("http://www.w3.org", ""), path


def test_forms_need_the_token_of_their_session(open_port: int) -> None:
    one, other = Browser(open_port), Browser(open_port)
    one.get("/")
    other.get("/")
    for change in CHANGES:
        path = change.path.replace("{name}", "x")
        assert one.post(path, {"confirmed": "yes"}).status == 403
        assert one.post(path, {"csrf": "", "confirmed": "yes"}).status == 403
    assert one.post("/login", {"token": "x"}).status == 403


def test_forms_of_other_sites_are_refused(visitor: Browser) -> None:
    form = visitor.get("/").form("/login")
    answer = visitor.post("/login", form.fields, origin="https://evil.example")
    assert answer.status == 403
    assert "another site" in answer.words
    assert visitor.post("/login", form.fields, origin=f"http://127.0.0.1:{visitor.port}").status == 401


def test_other_names_are_refused_where_nobody_logs_in(browser: Browser) -> None:
    assert browser.get("/", host="evil.example").status == 403
    assert browser.get("/", host=f"localhost:{browser.port}").status == 200


def test_failed_logins_have_to_wait() -> None:
    now = [0.0]
    logins = FailedLogins(most=2, seconds=60, clock=lambda: now[0])
    logins.add("a")
    assert logins.wait("a") == 0
    logins.add("a")
    assert logins.wait("a") == 60
    assert logins.wait("b") == 0
    now[0] = 61
    assert logins.wait("a") == 0


def test_who_guesses_tokens_has_to_wait(settings: Settings, home: Path, secrets: dict[str, str]) -> None:
    with running_console(settings, address="127.0.0.1:1", tokens=Path(secrets["file"])) as port:
        guesser = Browser(port)
        form = guesser.get("/").form("/login")
        assert [guesser.send(form, token=f"rf_{n}").status for n in range(6)] == [401] * 5 + [429]
        refused = guesser.send(form, token=secrets["admin"])
        assert refused.status == 429
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert guesser.get("/").status == 401


def test_sessions_end_when_idle() -> None:
    now = [0.0]
    sessions = Sessions(idle_seconds=10, clock=lambda: now[0])
    cookie = sessions.cookie(sessions.log_in("secret"))
    now[0] = 9
    kept = sessions.read(cookie)
    assert kept is not None
    assert kept.secret == "secret"
    now[0] = 20
    ended = sessions.read(cookie)
    assert ended is not None
    assert ended.secret == ""
    assert Sessions().read(cookie) is None  # of another process


def test_static_files_are_no_way_into_the_file_system(browser: Browser) -> None:
    page = browser.get("/").text
    address = page.partition('<link rel="stylesheet" href="')[2].partition('"')[0]
    found = browser.get(address)
    assert found.status == 200
    assert "immutable" in found.headers["cache-control"]
    for path in ("/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/..%2f..%2f..%2fetc%2fpasswd", "/static/x"):
        assert browser.get(path).status == 404


def test_what_is_not_there(browser: Browser) -> None:
    assert browser.get("/nothing").status == 404
    assert browser.ask("DELETE", "/").status == 405
    assert browser.get("/healthz").text == "ok"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{}", "application/json"),
        (b"a" * 2_000_000, "application/x-www-form-urlencoded"),
        (b"&".join(b"a=1" for _ in range(6000)), "application/x-www-form-urlencoded"),
    ],
)
def test_what_is_no_form(visitor: Browser, body: bytes, kind: str) -> None:
    answer = visitor.ask("POST", "/login", body, content_type=kind)
    assert answer.status == 400


def test_a_page_is_sent_at_once() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_options() -> None:
    with pytest.raises(ConfigError, match="no TLS"):
        ConsoleOptions(host="0.0.0.0").check()
    with pytest.raises(UsageError, match="no origin"):
        ConsoleOptions(image_origins=("https://a.example; script-src *",)).check()
    with pytest.raises(UsageError, match="no URL"):
        ConsoleOptions(metrics_url="127.0.0.1:9090").check()
    ConsoleOptions(image_origins=("https://a.example:8443",)).check()
