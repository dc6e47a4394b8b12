"""Items that come while a bundle is served are re-ranked as if they had been built into it."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rf_platform.errors import CorruptError
from rf_platform.registry.journal import CatalogJournal, Change
from rf_protos.v1.features_pb2 import FeatureValue, StringList
from rf_protos.v1.retrieval_pb2 import RERANK_LIME, Interaction, Session
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.compaction.compacted import CompactedCatalogs
from rf_serving.catalog.compaction.compactor import Compaction
from rf_serving.catalog.item_encoder import ItemEncoder
from rf_serving.catalog.live import LiveCatalog
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Answer, Query, RankRequest
from rf_serving.stage_timer import StageTimer

HISTORY = ("5", "17", "3", "44", "21", "9")
NEW = {"title": "War again", "genres": ["War"], "release_year": 1990}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[CatalogJournal]:
    with closing(CatalogJournal.open(f"sqlite:///{tmp_path / 'registry.db'}")) as journal:
        yield journal


def features(values: Mapping[str, Any]) -> dict[str, FeatureValue]:
    return {
        f"item_attributes__{name}": FeatureValue(string_list=StringList(values=value))
        if isinstance(value, list)
        else FeatureValue(string_value=value)
        if isinstance(value, str)
        else FeatureValue(int_value=value)
        for name, value in values.items()
    }


def put(journal: CatalogJournal, catalog: LiveCatalog, changes: Mapping[int, Mapping[str, Any] | str | None]) -> None:
    """Record changes: features, or as the journal has them, or None for a delete."""
    texts = {
        item: value
        if value is None or isinstance(value, str)
        else catalog.schema.text(catalog.schema.read(features(value), ""))
        for item, value in changes.items()
    }
    journal.record([[Change(item_id=str(item), features=text) for item, text in texts.items()]])


def as_built(catalog: LiveCatalog, items: list[int]) -> dict[int, str]:
    """Return items of the bundle with the features they have in it."""
    base = catalog.snapshot.base
    values = base.values(np.array([base.row_of[item] for item in items]))
    return {item: catalog.schema.text(each) for item, each in zip(items, values, strict=True)}


def answer(bundle: ServedBundle, catalog: LiveCatalog | None = None, *items: str) -> Answer:
    session = Session(history=[Interaction(item_id=item) for item in items or HISTORY])
    query = Query(subject=session, k=100, exclude_seen=False, rerank=RERANK_LIME)
    (found,) = Engine(bundle, catalog).rank_many(
        [RankRequest(query=query, watch=StageTimer(lambda stage, seconds: None), features=None)]
    )
    assert isinstance(found, Answer)
    assert found.rerank == RERANK_LIME
    return found


def assert_same(found: Answer, expected: Answer) -> None:
    """Scores of float16 rows may differ in their last digit; items whose scores do not, stand in the same order."""
    assert len(found.items) == len(expected.items)
    scores = dict(zip(found.items, found.scores, strict=True))
    assert [scores[item] for item in expected.items] == pytest.approx(expected.scores, abs=2e-3)


def test_an_item_of_the_bundle_keeps_what_it_had_when_it_was_built(ranked: ServedBundle) -> None:
    encoded = ItemEncoder(ranked).encode(LiveCatalog.open(ranked, _Empty()).snapshot.base.items)  # type: ignore[arg-type]
    assert ranked.item_states_NW is not None
    assert encoded.item_states_NW.dtype == ranked.item_states_NW.dtype
    np.testing.assert_allclose(encoded.item_states_NW, ranked.item_states_NW, rtol=2e-3, atol=1e-4)


class _Empty:
    def newest(self, after: int) -> list[Any]:
        return []


def test_upserted_items_are_re_ranked_as_if_they_had_been_built_in(
    ranked: ServedBundle, journal: CatalogJournal
) -> None:
    expected = answer(ranked)
    catalog = LiveCatalog.open(ranked, journal)
    put(journal, catalog, as_built(catalog, list(range(1, 41))))
    catalog.catch_up()
    assert catalog.snapshot.rows == 100
    assert_same(answer(ranked, catalog), expected)
    put(journal, catalog, {7: NEW, 12: None, 1000: NEW})
    catalog.catch_up()
    changed = answer(ranked, catalog)
    assert set(changed.items) == set(expected.items) - {"12"} | {"1000"}
    was, now = (dict(zip(each.items, each.scores, strict=True)) for each in (expected, changed))
    assert abs(now["7"] - was["7"]) > 0.01  # what is kept of it is new, too
    replayed = LiveCatalog.open(ranked, journal)
    assert_same(answer(ranked, replayed), changed)
    assert_same(answer(ranked, replayed, "1000", "7"), answer(ranked, catalog, "1000", "7"))


def test_an_item_without_usable_numbers_for_the_re_ranker_is_not_taken_in(
    ranked: ServedBundle, random_ranker: Callable[..., Any]
) -> None:
    from dataclasses import replace

    ranker = random_ranker()
    with torch.no_grad():
        ranker.get_parameter("item_extra.bias").fill_(1e5)  # beyond float16
    items = LiveCatalog.open(ranked, _Empty()).snapshot.base.items  # type: ignore[arg-type]
    assert ItemEncoder(ranked).encode(items).usable_N.all()
    assert not ItemEncoder(replace(ranked, ranker=ranker)).encode(items).usable_N.any()


def test_compaction_keeps_what_the_re_ranker_keeps(
    ranked: ServedBundle, journal: CatalogJournal, tmp_path: Path
) -> None:
    soon = Compaction(rows=20, niceness=0)
    catalog = LiveCatalog.open(ranked, journal, tmp_path / "cache", compaction=soon)
    changes = {**as_built(catalog, list(range(1, 20))), 20: NEW, 1000: NEW, 1001: None, 30: None}
    put(journal, catalog, changes)
    catalog.catch_up()
    expected = answer(ranked, catalog)
    catalog.follow()
    deadline = time.monotonic() + 120
    while catalog.snapshot.base.sequence == 0:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    catalog.close()
    base = catalog.snapshot.base
    assert catalog.snapshot.delta is None
    assert isinstance(base.item_states_NW, np.memmap)
    assert_same(answer(ranked, catalog), expected)
    put(journal, catalog, {1002: NEW, 1000: None})  # behind the compacted catalog
    catalog.catch_up()
    assert set(answer(ranked, catalog).items) == set(expected.items) - {"1000"} | {"1002"}
    (base.path / "item_sides.npy").unlink()
    with pytest.raises(CorruptError):
        CompactedCatalogs(tmp_path / "cache", ranked).open(base.sequence)
