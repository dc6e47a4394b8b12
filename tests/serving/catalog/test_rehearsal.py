"""A bundle is tried on the live catalog before it is promoted."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rf_platform.errors import RunError
from rf_platform.registry import Registry, promote
from rf_platform.registry.journal import CatalogJournal, Change
from rf_platform.settings import Settings, get_settings
from rf_serving.catalog.item_encoder import ItemEncoder
from rf_serving.commands.deployment import promote_app
from rf_serving.deployment.rehearsal import Rehearsal

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
YEAR = "item_attributes__release_year"


@pytest.fixture
def shop(home_copy: Path) -> tuple[Settings, Registry]:
    settings = Settings(home=home_copy)
    return settings, Registry.of(settings)


def record(settings: Settings, texts: dict[str, str]) -> None:
    journal = CatalogJournal.open(settings.platform_registry_url)
    journal.record([[Change(item_id=item, features=text) for item, text in texts.items()]])
    journal.close()


def test_items_that_do_not_fit_are_named_and_the_bundle_is_promoted(shop: tuple[Settings, Registry]) -> None:
    settings, registry = shop
    record(settings, {"100": f'{{"{YEAR}":9223372036854775808}}', "101": f'{{"{YEAR}":1999}}', "x": "{}"})
    rehearsal = Rehearsal(settings)
    assert promote(registry, "tiny-run-1", rehearse=rehearsal).bundle == "tiny-run-1"
    assert rehearsal.notes == [
        "2 items of the live catalog are not served as they were recorded: x: item ids of another type; "
        f"100: values do not fit: {YEAR}"
    ]


def test_a_bundle_that_cannot_take_the_catalog_is_not_promoted(
    shop: tuple[Settings, Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, registry = shop

    def fails(*_: Any) -> Any:
        raise ValueError("no such table")

    monkeypatch.setattr(ItemEncoder, "encode", fails)
    promote(registry, "tiny-run-1", rehearse=Rehearsal(settings))  # nothing was changed yet
    record(settings, {"100": "{}"})
    before = registry.deployments()
    with pytest.raises(RunError, match=r"'tiny-run-1' cannot take in the changes .*ValueError: no such table"):
        promote(registry, "tiny-run-1", rehearse=Rehearsal(settings))
    assert registry.deployments() == before


def test_the_command_says_what_does_not_fit(shop: tuple[Settings, Registry], monkeypatch: pytest.MonkeyPatch) -> None:
    settings, _ = shop
    record(settings, {"x": "{}"})
    monkeypatch.setenv("RF_HOME", str(settings.home))
    monkeypatch.setenv("RF_FEATURE_REPO", str(REPOSITORY))
    get_settings.cache_clear()
    found = CliRunner().invoke(promote_app, ["tiny-run-1", "--json"], catch_exceptions=False)
    get_settings.cache_clear()
    named = "1 items of the live catalog are not served as they were recorded: x: item ids of another type"
    assert json.loads(found.output[found.output.index("{") :])["notes"][-1] == named
