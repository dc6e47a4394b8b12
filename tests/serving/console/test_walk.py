"""People with each role in a real browser, from the first promotion on: every button is pressed, and every page is sound."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa

from rf_platform.registry import Registry
from rf_platform.settings import Settings

from ..conftest import REPOSITORY, running_server
from .conftest import running_console
from .test_browser import PAGES

SCRIPT = Path(__file__).with_name("walk.mjs")
MARKUP = '<script>alert("x")</script>"\'><img src=x onerror=alert(1)>'
OF_ADMINS = ("/audit",)
OF_WRITERS = ("/item/edit?id=17",)
WITHOUT_A_BUNDLE = ("/item", "/user", "/catalog", "/feature?")
"""Pages that say that nothing is promoted."""


@dataclass
class Walked:
    """What a person has found."""

    seen: dict[str, Any]
    pressed: list[str]


@pytest.fixture
def walk(
    chromium: str, browser_modules: str, secrets: dict[str, str], record_property: Callable[[str, object], None]
) -> Callable[..., Walked]:
    """Walk with a role: ``walk(port, "read")``; ``role`` where the walk has another name."""

    def walked(port: int, name: str, role: str = "", pages: list[str] | None = None) -> Walked:
        given = {"walk": name, "token": secrets[role or name], "markup": MARKUP, "pages": pages or []}
        command = ["node", str(SCRIPT), browser_modules, chromium, f"http://127.0.0.1:{port}", json.dumps(given)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=540)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        if shots := os.environ.get("RF_TEST_SHOTS"):
            Path(shots).mkdir(parents=True, exist_ok=True)
            Path(shots, f"walk-{name}.json").write_text(json.dumps(found, indent=1))
        assert found["failed"] is None, found["failed"]
        assert not found["wrong"], json.dumps(found["wrong"], indent=1)
        return Walked(found["seen"], found["pressed"])

    return walked


@pytest.fixture(scope="module")
def shop(two_bundles: Settings, secrets: dict[str, str]) -> Iterator[int]:
    """Port of a console with tokens, beside a server, on a workspace with two bundles that may be changed."""
    tokens = Path(secrets["file"])
    with (
        running_server(two_bundles, tokens=tokens) as running,
        running_console(two_bundles, address=running.server.address, tokens=tokens) as port,
    ):
        yield port


@pytest.mark.timeout(600)
def test_who_may_read_sees_everything_and_changes_nothing(shop: int, walk: Callable[..., Walked]) -> None:
    pages = [path for path in PAGES if path not in (*OF_ADMINS, *OF_WRITERS)]
    walked = walk(shop, "read", pages=pages)
    seen = walked.seen
    assert "this token is not known here" in seen["refused"]
    assert seen["after"] == "/catalog?q=movie"
    assert "Audit" not in seen["navigation"]
    assert all(seen[f"heading {name}"] for name in seen["navigation"])
    assert parse_qs(urlsplit(seen["address"]).query)["q"] == ["movie 17"]
    assert seen["card"] == ["Find out"]
    assert "none" in seen["audience"]
    assert "share" in seen["audience"]
    assert seen["session"] == 2
    assert seen["reasons"] > 0
    assert seen["sides"] == ["Now", "What if"]
    assert "bundle next, computed by the console" in seen["other"]
    assert seen["forbidden"] == [403, 403, 403]
    assert seen["deployments"] == ["Search"]
    assert seen["policies"] == []
    assert "A token is made by" in seen["out"]
    changes = ("/item/save", "/item/delete", "/policies/apply", "/deployments/promote")
    assert not [name for name in walked.pressed if name.startswith(changes)]


@pytest.mark.timeout(600)
def test_who_may_write_edits_items_and_policies(shop: int, walk: Callable[..., Walked]) -> None:
    walked = walk(shop, "write", pages=[path for path in PAGES if path not in OF_ADMINS])
    seen = walked.seen
    assert "soon" in seen["problem"]
    assert seen["disabled"]
    assert seen["kept"] == ["9100", MARKUP]
    assert seen["added"] == "Item 9100: added"
    assert seen["title"] == MARKUP
    assert seen["changed"] == "Item 9100: changed"
    assert seen["refusedPolicy"]
    assert seen["text"] == "placements: ["
    assert seen["applied"].startswith("policy version 1 ")
    assert seen["again"].startswith("policy version 3 ")
    assert MARKUP in seen["question"]
    assert seen["deleted"] == "Item 9100: deleted"
    assert seen["deployments"] == ["Search"]
    assert seen["forbidden"] == [403]


@pytest.mark.timeout(600)
def test_who_may_do_everything_promotes_and_goes_back(
    shop: int, two_bundles: Settings, walk: Callable[..., Walked]
) -> None:
    walked = walk(shop, "admin", pages=["/deployments", "/policies", "/item?id=17", "/quality", "/audit"])
    seen = walked.seen
    assert seen["tooMuch"]
    assert "all have their checksums" in seen["checks"]
    assert "next answers 25% of the users" in seen["split"]
    assert "next answers 10% of the requests unseen" in seen["shadow"]
    assert "next is no shadow any more" in seen["unshadowed"]  # and still has its part of the users
    assert "next is withdrawn" in seen["withdrawn"]
    assert "next is promoted" in seen["promoted"]
    assert "all have their checksums" in seen["rollback"]
    assert "tiny-run-1 is served again" in seen["back"]
    assert "a-admin" in seen["audit"]
    assert Registry.of(two_bundles).active_bundle() == Registry.of(two_bundles).bundle("tiny-run-1")
    for action in ("promote", "split", "shadow"):
        assert any(name.startswith(f"/deployments/{action} ") for name in walked.pressed), action


@pytest.mark.timeout(300)
def test_the_first_bundle_is_promoted_in_the_browser(
    home: Path,
    tmp_path: Path,
    copy_workspace: Callable[[Path, Path], Path],
    secrets: dict[str, str],
    walk: Callable[..., Walked],
) -> None:
    settings = Settings(home=copy_workspace(home, tmp_path / "home"), feature_repo=REPOSITORY)
    engine = sa.create_engine(settings.platform_registry_url)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM rf_deployments"))
    engine.dispose()
    assert Registry.of(settings).active_bundle() is None
    pages = [path for path in PAGES if not path.startswith(WITHOUT_A_BUNDLE)]
    with running_console(settings, address="127.0.0.1:1", tokens=Path(secrets["file"])) as port:
        seen = walk(port, "first", "admin", pages=pages).seen
    assert "No bundle is promoted yet" in seen["empty"]
    assert "all have their checksums" in seen["checks"]
    assert "tiny-run-1 is promoted" in seen["promoted"]
    assert "tiny-run-1" in seen["overview"]
    assert "60 items of bundle tiny-run-1" in seen["catalog"]
