"""The catalog as the journal changes it, encoded by a real item tower."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from structlog.testing import LogCapture

from rf_platform.registry.journal import CatalogJournal, Change
from rf_protos.v1.catalog_pb2 import Item, UpsertStatus
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.base_segment import BaseSegment
from rf_serving.catalog.edits import Upsert
from rf_serving.catalog.item_encoder import ItemEncoder
from rf_serving.catalog.item_schema import ItemSchema
from rf_serving.catalog.live import LiveCatalog
from rf_serving.index.vector_index import NO_ROW

Put = Callable[[Mapping[int, Mapping[str, Any] | None]], list[int]]
WAR = {"title": "War again", "genres": ["War"], "release_year": 1990}


def state(catalog: LiveCatalog) -> dict[str, tuple[list[float], dict[str, Any], int]]:
    """Return all living items: vector, features and change by id."""
    snapshot = catalog.snapshot
    rows = np.flatnonzero(snapshot.live_mask_N)
    vectors, values, sequences = snapshot.vectors(rows), snapshot.values(rows), snapshot.sequences(rows)
    return {
        text: (np.round(vector, 5).tolist(), value, sequence)
        for text, vector, value, sequence in zip(snapshot.texts(rows), vectors, values, sequences, strict=True)
    }


def test_without_changes_it_is_the_bundles_catalog(bundle: ServedBundle, journal: CatalogJournal) -> None:
    catalog = LiveCatalog.open(bundle, journal)
    assert (catalog.snapshot.sequence, catalog.snapshot.alive, catalog.snapshot.delta) == (0, 60, None)
    np.testing.assert_array_equal(catalog.snapshot.vectors(np.arange(60)), bundle.vectors_ND)


def test_an_item_of_the_bundle_is_encoded_as_it_was_when_the_bundle_was_built(bundle: ServedBundle) -> None:
    snapshot = LiveCatalog.open(bundle, _Empty()).snapshot  # type: ignore[arg-type]  # a journal that nobody wrote
    encoded = ItemEncoder(bundle).encode(snapshot.base.items)
    np.testing.assert_allclose(encoded.vectors_ND, bundle.vectors_ND, atol=1e-6)
    np.testing.assert_allclose(encoded.tokens_NE, bundle.item_tokens_ND, atol=1e-5)
    assert isinstance(bundle.item_tokens_ND, np.memmap)
    assert snapshot.tokens(np.arange(3)).flags.writeable  # a copy: PyTorch takes nothing else
    assert encoded.usable_N.all()


class _Empty:
    def newest(self, after: int) -> list[Any]:
        return []


def test_known_items_keep_their_id_and_only_others_are_cold(bundle: ServedBundle, schema: ItemSchema) -> None:
    model = copy.deepcopy(bundle.model)
    model.cold_shift.fill_(0.25)
    encoder = ItemEncoder(replace(bundle, model=model))
    known = next(item for item, row in bundle.row_of_item.items() if not encoder.cold([item])[0])
    values = {"item_attributes__genres": ["War"]}
    same, alike = 1000, 1001
    encoded = encoder.encode(schema.table([known, same, alike], [values] * 3))
    assert encoder.cold([known, same, alike]).tolist() == [False, True, True]
    np.testing.assert_allclose(encoded.vectors_ND[:, -1], [0, 0.25, 0.25])
    np.testing.assert_array_equal(encoded.vectors_ND[1], encoded.vectors_ND[2])
    assert np.abs(encoded.vectors_ND[0] - encoded.vectors_ND[1])[:-1].max() > 0.01


def test_an_id_in_hash_buckets_is_cold_unless_training_met_the_item(bundle: ServedBundle) -> None:
    ids = bundle.encoder.vocabularies["item_id"]
    hashed = replace(ids, domain=replace(ids.domain, buckets=64), values=pa.array([], pa.int64()))
    encoder = replace(bundle.encoder, vocabularies={**bundle.encoder.vocabularies, "item_id": hashed})
    popularity = np.zeros(60, np.int64)
    popularity[bundle.row_of_item[7]] = 3
    changed = replace(bundle, encoder=encoder, popularity_N=popularity)
    assert ItemEncoder(changed).cold([7, 8, 1000]).tolist() == [False, True, True]


def test_every_process_has_the_changes_of_all(bundle: ServedBundle, journal: CatalogJournal, put: Put) -> None:
    put({100: WAR, 3: None})
    first, second = LiveCatalog.open(bundle, journal), LiveCatalog.open(bundle, journal)
    put({101: WAR, 3: WAR, 4: None, 100: {"title": "renamed"}})
    assert first.catch_up() == second.catch_up() == 6
    third = LiveCatalog.open(bundle, journal)
    assert state(first) == state(second) == state(third)
    assert state(first)["101"][1] == {
        "item_attributes__title": "War again",
        "item_attributes__genres": ["War"],
        "item_attributes__release_year": 1990,
    }
    assert {k: v[2] for k, v in state(first).items() if v[2]} == {"101": 3, "3": 4, "100": 6}
    assert first.snapshot.alive == 61


def test_a_request_keeps_the_catalog_it_began_with(bundle: ServedBundle, journal: CatalogJournal, put: Put) -> None:
    catalog = LiveCatalog.open(bundle, journal)
    before = catalog.snapshot
    put({100: WAR, 3: None})
    catalog.catch_up()
    assert (before.row_of(100), catalog.snapshot.row_of(100)) == (NO_ROW, 60)
    assert before.live_mask_N[before.row_of(3)]
    assert not catalog.snapshot.live_mask_N[catalog.snapshot.row_of(3)]


def test_what_a_bundle_cannot_read_is_left_out(
    bundle: ServedBundle, journal: CatalogJournal, logs: LogCapture, put: Put
) -> None:
    journal.record(
        [
            [
                Change(item_id="not a number", features="{}"),
                Change(item_id="100", features='{"gone__feature":1,"item_attributes__release_year":"nineties"}'),
                Change(item_id="also none", features=None),
            ]
        ]
    )
    catalog = LiveCatalog.open(bundle, journal)
    assert (catalog.snapshot.sequence, catalog.snapshot.alive) == (3, 61)
    assert state(catalog)["100"][1] == {}
    (line,) = [entry for entry in logs.entries if entry["event"] == "item ids of another type"][-1:]
    assert (line["items"], line["item_ids"]) == (2, ["not a number", "also none"])


def test_a_value_that_does_not_fit_is_missing_and_the_item_is_named_and_counted(
    bundle: ServedBundle, journal: CatalogJournal, logs: LogCapture
) -> None:
    texts = {
        "100": '{"item_attributes__genres":["War"],"item_attributes__release_year":9223372036854775808}',
        "101": "{}",
    }
    journal.record([[Change(item_id=item, features=text) for item, text in texts.items()]])
    catalog = LiveCatalog.open(bundle, journal)
    assert state(catalog)["100"][1] == {"item_attributes__genres": ["War"]}
    assert (catalog.snapshot.alive, catalog.unfit) == (62, 1)
    (line,) = [entry for entry in logs.entries if entry["event"] == "values do not fit"][-1:]
    assert (line["item_ids"], line["fields"]) == (["100"], ["item_attributes__release_year"])


def test_of_fields_that_came_after_a_change_the_bundles_values_stay(
    bundle: ServedBundle, journal: CatalogJournal, schema: ItemSchema
) -> None:
    """The change was recorded while an older bundle was served, which knew neither titles nor years."""
    built = schema.rows(schema.cast(BaseSegment.of(bundle).items))
    genres = '{"item_attributes__genres":["War"]}'
    missing = '{"item_attributes__genres":["War"],"item_attributes__release_year":null}'
    journal.record([[Change(item_id="3", features=genres), Change(item_id="4", features=missing)]])
    journal.record([[Change(item_id="100", features=genres)]])
    catalog = LiveCatalog.open(bundle, journal)
    found = {item: values for item, (_, values, _) in state(catalog).items()}
    assert found["3"] == {**built[2], "item_attributes__genres": ["War"]}
    without_year = {name: value for name, value in built[3].items() if not name.endswith("year")}
    assert found["4"] == {**without_year, "item_attributes__genres": ["War"]}
    assert found["100"] == {"item_attributes__genres": ["War"]}
    vector = ItemEncoder(bundle).encode(schema.table([3], [found["3"]])).vectors_ND[0]
    np.testing.assert_allclose(state(catalog)["3"][0], vector, atol=2e-5)


def test_what_a_bundle_beside_was_built_without_is_recorded(
    bundle: ServedBundle, journal: CatalogJournal, tmp_path: Path
) -> None:
    """Another journal makes a catalog of other items here: one bundle has item 5 no more, and item 6 otherwise."""
    elsewhere = CatalogJournal.open(f"sqlite:///{tmp_path / 'elsewhere.db'}")
    elsewhere.record(
        [[Change(item_id="5", features=None), Change(item_id="6", features='{"item_attributes__release_year":1900}')]]
    )
    catalog, beside = LiveCatalog.open(bundle, journal), LiveCatalog.open(bundle, elsewhere)
    built = catalog.schema.rows(catalog.schema.cast(BaseSegment.of(bundle).items))
    items = [Item(item_id=str(n), features=catalog.schema.message(built[n - 1])) for n in (5, 6, 7)]
    for others, fresh in (([], [False] * 3), ([beside], [True, True, False]), ([beside], [False] * 3)):
        upsert = Upsert(catalog, items, 0, beside=others)
        (recorded,) = journal.record([upsert.changes])
        assert [change.fresh for change in recorded] == fresh
        catalog.catch_up()
        outcomes = [UpsertStatus.CHANGED if new else UpsertStatus.UNCHANGED for new in fresh]
        assert [status.outcome for status in upsert.reply(recorded).statuses] == outcomes
    elsewhere.close()


def test_an_item_whose_vector_is_not_finite_for_this_tower_is_not_returned(
    bundle: ServedBundle, journal: CatalogJournal, put: Put
) -> None:
    model = copy.deepcopy(bundle.model)
    year = bundle.encoder.vocabularies["year"].encode(pa.array([1990]))[0]
    with torch.no_grad():
        table = model.embeddings.collection.embedding_bags[model.embeddings.table_of["item_attributes__release_year"]]
        table.weight[year] = torch.nan
    broken = replace(bundle, model=model)
    put({3: {**WAR, "release_year": 1990}, 100: {**WAR, "release_year": 1990}, 101: {"title": "fine"}})
    catalog = LiveCatalog.open(broken, journal)
    assert set(state(catalog)) == {str(n) for n in range(1, 61) if n != 3} | {"101"}


def test_changes_of_others_appear_by_themselves_and_the_log_tells_once_of_a_registry_that_is_down(
    bundle: ServedBundle, journal: CatalogJournal, put: Put, tmp_path: Path, logs: LogCapture
) -> None:
    logs.entries.clear()  # of other tests
    catalog = LiveCatalog.open(bundle, journal)
    catalog.follow()
    try:
        put({100: WAR})
        _wait(lambda: catalog.snapshot.sequence == 1)
        files = list(tmp_path.glob("registry.db*"))
        for file in files:
            file.rename(tmp_path / f"away-{file.name}")
        _wait(lambda: _count(logs, "journal cannot be read") > 0)
        time.sleep(0.5)
        assert _count(logs, "journal cannot be read") == 1
        assert catalog.snapshot.alive == 61
        for file in files:
            (tmp_path / f"away-{file.name}").rename(file)
        put({101: WAR})
        _wait(lambda: catalog.snapshot.sequence == 2)
        _wait(lambda: _count(logs, "journal is back") == 1)
    finally:
        catalog.close()


def _count(logs: LogCapture, event: str) -> int:
    return sum(entry["event"] == event for entry in logs.entries)


def _wait(until: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
