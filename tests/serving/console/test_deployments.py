"""Deployments in the console: checked before the button works, asked for, made, noted, taken back."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rf_platform.registry import Registry
from rf_platform.settings import Settings

from .conftest import Browser, running_console


@pytest.fixture(scope="module")
def own_port(two_bundles: Settings, secrets: dict[str, str]) -> Iterator[int]:
    with running_console(two_bundles, address="127.0.0.1:1", tokens=Path(secrets["file"])) as port:
        yield port


@pytest.fixture
def admin(own_port: int, secrets: dict[str, str]) -> Browser:
    browser = Browser(own_port)
    browser.log_in(secrets["admin"])
    return browser


def test_split_shadow_promotion_and_rollback(admin: Browser, two_bundles: Settings) -> None:
    registry = Registry.of(two_bundles)
    page = admin.get("/deployments")
    assert "0.2500" in page.words
    question = admin.send(page.form("/deployments/split", bundle="next"), percent="25")
    assert "Let next answer 25% of the users?" in question.words
    assert "all have their checksums" in question.words
    assert "the feature store offers all that it reads" in question.words
    assert registry.traffic.now().challenger is None
    page = admin.confirm(question)
    assert "next answers 25% of the users" in page.words
    assert registry.traffic.now().percent == 25
    page = admin.confirm(admin.send(page.form("/deployments/shadow", bundle="next"), percent="50"))
    assert registry.traffic.now().share == 0.5
    page = admin.confirm(admin.send(page.form("/deployments/withdraw", bundle="next")))
    assert registry.traffic.now().challenger is None
    page = admin.confirm(admin.send(page.form("/deployments/withdraw", bundle="next")))
    assert registry.traffic.now().shadow is None
    page = admin.confirm(admin.send(page.form("/deployments/promote", bundle="next"), note="<b>why</b>"))
    assert "<b>why</b> (a-admin, console)" in page.words
    assert registry.active_bundle() == registry.bundle("next")
    page = admin.confirm(admin.send(page.form("/deployments/rollback", bundle="tiny-run-1")))
    assert "tiny-run-1 is served again" in page.words
    assert registry.active_bundle() == registry.bundle("tiny-run-1")
    log = two_bundles.workspace.root / "console" / "audit.jsonl"
    noted = [line for line in map(json.loads, log.read_text().splitlines()) if line["outcome"] == "done"]
    assert [line["action"] for line in noted] == [
        "split",
        "shadow",
        "withdraw",
        "withdraw",
        "promote",
        "rollback",
    ]
    assert {line["who"] for line in noted} == {"a-admin"}


def test_what_fails_its_checks_has_no_button(admin: Browser, two_bundles: Settings) -> None:
    file = two_bundles.workspace.bundles / "next" / "popularity.npy"
    kept, form = file.read_bytes(), admin.get("/deployments").form("/deployments/promote", bundle="next")
    before = Registry.of(two_bundles).deployments()
    file.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    try:
        question = admin.send(form)
        assert "popularity.npy" in question.words
        assert question.forms[-1].disabled
        assert admin.send(form, confirmed="yes").status >= 400  # checked again, whatever was asked
    finally:
        file.write_bytes(kept)
    for percent in ("0", "100", "101", "nan", "much"):
        question = admin.send(admin.get("/deployments").form("/deployments/split", bundle="next"), percent=percent)
        assert question.forms[-1].disabled, percent
    assert admin.send(form, bundle="nothing").forms[-1].disabled
    assert Registry.of(two_bundles).deployments() == before


def test_what_has_changed_meanwhile_is_not_done(admin: Browser) -> None:
    form = admin.get("/deployments").form("/deployments/promote", bundle="next")
    assert admin.post("/deployments/rollback", {**form.fields, "bundle": "next", "confirmed": "yes"}).status >= 400
    assert admin.post("/deployments/withdraw", {**form.fields, "bundle": "next", "confirmed": "yes"}).status >= 400


def test_others_see_and_change_nothing(own_port: int, secrets: dict[str, str]) -> None:
    browser = Browser(own_port)
    csrf = browser.log_in(secrets["write"]).form("/logout").fields["csrf"]
    page = browser.get("/deployments")
    assert "tiny-run-1" in page.words
    assert [form.action for form in page.forms if form.action.startswith("/deployments/")] == []
    answer = browser.post("/deployments/promote", {"csrf": csrf, "bundle": "next", "confirmed": "yes"})
    assert answer.status == 403


def test_how_a_shadow_compares(browser: Browser) -> None:
    page = browser.get("/deployments")
    assert "No bundle answers unseen" in page.words
    assert "60, catalog change 0" in page.words  # as the server says
