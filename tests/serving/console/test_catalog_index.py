"""The index of the catalog: built once, and brought up to date by the journal."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_console.catalog_index import CatalogIndex, build_index
from rf_platform.bundle import files
from rf_platform.features.spec import DomainSpec, EntitySpec, FeatureSpec, FieldSpec
from rf_platform.registry.journal import CatalogJournal, Change, canonical_json

TITLE, KINDS, IMAGE = "item__title", "item__kinds", "item__image"
SPEC = FeatureSpec(
    service="retrieval",
    user=EntitySpec(name="user", join_key="user_id", id_type="string"),
    item=EntitySpec(name="item", join_key="item_id", id_type="string"),
    fields=(
        FieldSpec(
            view="item", field="kinds", side="item", kind="multi", role="feature", dtype="Array(String)", domain="kind"
        ),
        FieldSpec(view="item", field="image", side="item", kind="categorical", role="display", dtype="String"),
        FieldSpec(view="item", field="title", side="item", kind="categorical", role="display", dtype="String"),
    ),
    domains=(DomainSpec(name="kind", value_type="string"),),
    history_length=10,
)


@pytest.fixture
def journal(tmp_path: Path) -> CatalogJournal:
    return CatalogJournal.open(f"sqlite:///{tmp_path}/registry.db")


@pytest.fixture
def index(tmp_path: Path, journal: CatalogJournal) -> CatalogIndex:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    titles = ["Green tea", "Black tea", "Café crème", "Tea pot, green", None]
    kinds = [["tea", "Hot"], ["tea"], ["coffee", "hot"], [], None]
    images = ["https://images.example/a1.png", None, None, None, None]
    table = {"item_id": ["a1", "a2", "b1", "b2", "tea"], TITLE: titles, KINDS: kinds, IMAGE: images}
    pq.write_table(pa.table(table), bundle / files.ITEMS)
    np.save(bundle / files.POPULARITY, np.array([1, 5, 0, 9, 2]))
    record: Any = SimpleNamespace(path=bundle)
    build_index(record, SPEC, journal, tmp_path / "index.db")
    return CatalogIndex(tmp_path / "index.db", journal, SPEC)


def found(index: CatalogIndex, text: str = "", *filters: tuple[str, str], **options: int) -> list[str]:
    return [item.id for item in index.find(text, filters, **options).items]


def test_the_most_popular_come_first(index: CatalogIndex) -> None:
    assert found(index) == ["b2", "a2", "tea", "a1", "b1"]
    assert found(index, start=1, count=2) == ["a2", "tea"]
    assert index.find("").count == 5


def test_ids_come_before_words(index: CatalogIndex) -> None:
    assert found(index, "tea") == ["tea", "b2", "a2", "a1"]
    assert found(index, "tea", start=1, count=2) == ["b2", "a2"]
    assert index.find("tea").count == 4
    assert found(index, "a") == ["a1", "a2"]
    assert found(index, "green te") == ["b2", "a1"]


def test_accents_case_and_signs_do_not_matter(index: CatalogIndex) -> None:
    assert found(index, "CAFE") == ["b1"]
    for text in ('"', "' OR 1=1 --", "text:tea*", "NEAR(", "*", "%", "\x00", "a" * 10_000):
        index.find(text)


def test_filters_are_values_of_features(index: CatalogIndex) -> None:
    assert found(index, "", (KINDS, "hot")) == ["a1", "b1"]
    assert found(index, "", (KINDS, "hot"), (KINDS, "tea")) == ["a1"]
    assert found(index, "green", (KINDS, "tea")) == ["a1"]
    assert index.filters == [KINDS]


def test_changes_are_taken_in(index: CatalogIndex, journal: CatalogJournal) -> None:
    changed = canonical_json({TITLE: "Éclair", KINDS: ["cake"]})
    journal.record([[Change(item_id="c1", features=changed), Change(item_id="a2", features=None, built="{}")]])
    index.look()
    assert found(index, "eclair") == ["c1"]
    assert found(index, "black") == []
    assert found(index) == ["b2", "tea", "a1", "b1", "c1"]
    journal.record([[Change(item_id="c1", features=canonical_json({TITLE: "Scone", KINDS: None}))]])
    index.look()
    assert found(index, "eclair") == []
    assert [(item.id, json.dumps(dict(item.shown))) for item in index.find("sco").items] == [
        ("c1", '{"item__title": "Scone"}')
    ]
    assert index.titles(["c1", "tea", "nothing"]) == {"c1": "Scone", "tea": "tea", "nothing": "nothing"}


def test_an_image_is_no_title_and_no_word(index: CatalogIndex) -> None:
    (item,) = index.find("a1").items
    assert index.image(item) == "https://images.example/a1.png"
    assert index.title(item) == "Green tea"
    assert found(index, "png") == []
    assert index.image(index.of(["a2"])["a2"]) == ""
