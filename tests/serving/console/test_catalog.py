"""The catalog of the console: search, the card of an item, changes, and titles with markup."""

import json
import time
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from rf_platform.settings import Settings
from rf_protos.v1.catalog_pb2 import Item, UpsertStatus
from rf_serving.client import RetrievalClient

from ..conftest import REPOSITORY, RunningServer, running_server
from .conftest import Browser, running_console

MARKUP = '<script>alert("x")</script>"\'><img src=x onerror=alert(1)>'


@pytest.fixture(scope="module")
def editable(
    home: Path,
    tmp_path_factory: pytest.TempPathFactory,
    copy_workspace: Callable[[Path, Path], Path],
    secrets: dict[str, str],
) -> Iterator[tuple[Settings, RunningServer, int]]:
    """A copy of the workspace with a server and a console, which may be changed: settings, server, port."""
    copied = copy_workspace(home, tmp_path_factory.mktemp("editable") / "home")
    settings = Settings(home=copied, feature_repo=REPOSITORY)
    options: dict[str, Any] = {"tokens": Path(secrets["file"])}
    with (
        running_server(settings, **options) as running,
        running_console(
            settings, address=running.server.address, image_origins=("https://images.example",), **options
        ) as port,
    ):
        yield settings, running, port


@pytest.fixture
def writer(editable: tuple[Settings, RunningServer, int], secrets: dict[str, str]) -> Browser:
    browser = Browser(editable[2])
    browser.log_in(secrets["write"])
    return browser


def test_all_items_page_by_page(browser: Browser) -> None:
    first, second = browser.get("/catalog"), browser.get("/catalog?page=2")
    assert "60 items" in first.words
    assert first.text.count('href="/item?id=') == 50
    assert second.text.count('href="/item?id=') == 10
    assert browser.get("/catalog?page=0").status == 400


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=17", ["17"]),
        ("q=Movie+17", ["17"]),
        ("q=mov+1", ["1", *map(str, range(10, 20))]),
        ("q=nothing", []),
        ("q=%22%27%29+OR+1=1+--", []),
        ("q=movie*", [str(i) for i in range(1, 61)]),
    ],
)
def test_search(browser: Browser, query: str, found: list[str]) -> None:
    shown = browser.get(f"/catalog?{query}")
    assert shown.status == 200
    links = [part.partition('"')[0] for part in shown.text.split('href="/item?id=')[1:]]
    assert len(links) == min(len(found), 50)
    if len(found) <= 50:
        assert sorted(links) == sorted(found)


def test_filters_are_in_the_address(browser: Browser) -> None:
    shown = browser.get("/catalog?where=genres%3DDrama&where=item_attributes__genres%3Dwar")
    links = [part.partition('"')[0] for part in shown.text.split('href="/item?id=')[1:]]
    assert links
    for item in links:
        words = browser.get(f"/item?id={item}").words
        assert "Drama" in words
        assert "War" in words
    fewer = browser.get("/catalog?where=genres%3DDrama").text.count('href="/item?id=')
    assert fewer > len(links)
    wrong = browser.get("/catalog?where=nothing%3D1")
    assert wrong.status == 400
    assert "no filter" in wrong.words


def test_the_card_of_an_item(browser: Browser) -> None:
    shown = browser.get("/item?id=17")
    assert "Movie 17" in shown.words
    assert "as bundle tiny-run-1 has it" in shown.words
    assert shown.text.count("<circle") == 41
    assert "Delete" in shown.words
    assert browser.get("/item?id=nothing").status == 404
    assert browser.get("/item").status == 400


def test_images_come_from_the_origins_that_are_named(writer: Browser, browser: Browser) -> None:
    assert "img-src 'self' https://images.example;" in writer.get("/catalog").headers["content-security-policy"]
    assert "img-src 'self';" in browser.get("/catalog").headers["content-security-policy"]


def test_a_reader_sees_no_buttons(visitor: Browser, secrets: dict[str, str]) -> None:
    visitor.log_in(secrets["read"])
    assert "Delete" not in visitor.get("/item?id=17").words
    assert "Add an item" not in visitor.get("/catalog").words


def test_an_item_is_added_changed_and_deleted(writer: Browser, editable: tuple[Settings, RunningServer, int]) -> None:
    settings = editable[0]
    title = next(name for name in writer.get("/item/new").form("/item/save").fields if name.endswith("__title"))
    genres = next(name for name in writer.get("/item/new").form("/item/save").fields if name.endswith("__genres"))
    form = writer.get("/item/new").form("/item/save")
    question = writer.send(form, id="9001", **{title: MARKUP, genres: '["War", "Drama"]'})
    assert "Add item 9001?" in question.words
    assert writer.get("/item?id=9001").status == 404  # only asked
    card = writer.confirm(question)
    assert "Item 9001: added" in card.words
    assert "<script>alert" not in card.text
    assert "onerror=alert(1)>" not in card.text
    assert MARKUP in card.words

    change = writer.get("/item/edit?id=9001").form("/item/save")
    assert change.fields[genres] == '["War", "Drama"]'
    assert writer.send(change).forms[-1].disabled  # nothing differs
    wrong = writer.send(change, **{next(n for n in change.fields if n.endswith("release_year")): "soon"})
    assert "soon" in wrong.words
    assert wrong.forms[-1].disabled
    card = writer.confirm(writer.send(change, **{genres: '["War"]'}))
    assert "Item 9001: changed" in card.words
    assert "War, Drama" not in card.words

    question = writer.send(card.form("/item/delete"))
    assert "Delete item 9001" in question.words
    after = writer.confirm(question)
    assert "Item 9001: deleted" in after.words
    assert writer.get("/item?id=9001").status == 404
    assert "alert" not in writer.get("/catalog?q=9001").words

    lines = [
        json.loads(line) for line in (settings.workspace.root / "console" / "audit.jsonl").read_text().splitlines()
    ]
    changes = [line for line in lines if line["outcome"] == "done"]
    done = [(line["who"], line["role"], line["from"], line["action"]) for line in changes]
    assert done == [("a-write", "write", "127.0.0.1", "upsert item")] * 2 + [
        ("a-write", "write", "127.0.0.1", "delete item")
    ]
    assert changes[0]["given"]["id"] == "9001"


def test_markup_is_text_on_every_page(writer: Browser, secrets: dict[str, str]) -> None:
    form = writer.get("/item/new").form("/item/save")
    title = next(name for name in form.fields if name.endswith("__title"))
    writer.confirm(writer.send(form, id="9002", **{title: MARKUP}))
    for path in (
        "/item?id=9002",
        "/item/edit?id=9002",
        "/catalog?q=9002",
        "/catalog?q=alert",
        "/user?session=9002",
        "/user?find=alert&anonymous=yes",
        f"/catalog?{urlencode({'q': MARKUP})}",
        "/user?id=%3Cscript%3Ealert(1)%3C/script%3E",
        "/item?id=%3Cscript%3Ealert(1)%3C/script%3E",
    ):
        shown = writer.get(path)
        assert "alert" in unescape(shown.text), path
        assert "<script>alert" not in shown.text, path
        assert "<img src=x" not in shown.text, path


def test_without_a_server_the_workspace_is_shown(settings: Settings, home: Path) -> None:
    with running_console(settings, address="127.0.0.1:1") as port:
        browser = Browser(port)
        assert "Movie 17" in browser.get("/catalog?q=17").words
        card = browser.get("/item?id=17")
        assert card.status == 200
        assert "no server answers" in card.words
        overview = browser.get("/")
        assert "tiny-run-1" in overview.words
        assert "no answer" in overview.words
        assert browser.get("/user?id=1").status == 503


def test_changes_of_others_are_found(
    editable: tuple[Settings, RunningServer, int], writer: Browser, secrets: dict[str, str]
) -> None:
    title = next(name for name in writer.get("/item/new").form("/item/save").fields if name.endswith("__title"))
    with RetrievalClient(editable[1].server.address, token=secrets["write"]) as client:
        item = Item(item_id="9003")
        item.features[title.removeprefix("field:")].string_value = "Brand-new Éclair"
        (status,) = client.upsert([item])
    assert status.outcome == UpsertStatus.ADDED, status
    until = time.monotonic() + 20
    while "9003" not in (shown := writer.get("/catalog?q=eclair")).words:
        assert time.monotonic() < until, shown.words
        time.sleep(0.05)
    assert "Brand-new Éclair" in shown.words
