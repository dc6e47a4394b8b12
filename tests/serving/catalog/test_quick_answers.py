"""Quick answers are those of the full path, field by field, as messages and as objects."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rf_platform.errors import DataError, RfError, UsageError
from rf_platform.features.store import open_store
from rf_platform.registry.journal import CatalogJournal, Change
from rf_platform.settings import Settings
from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveResponse, SearchPlan, Session
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.item_schema import ItemSchema
from rf_serving.catalog.live import LiveCatalog
from rf_serving.index import Found, HnswIndex
from rf_serving.index.vector_index import NO_ROW
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Answer, Query, RankRequest
from rf_serving.retrieval.quick_ranker import QuickAnswer
from rf_serving.retrieval.routing import Route
from rf_serving.server.retrieval_servicer import encode_answer
from rf_serving.stage_timer import StageTimer
from rf_serving.user_features.features import UserFeatures

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
UNKNOWN_USER, NO_HISTORY = 999, 31


@pytest.fixture(scope="module")
def route(home: Path, bundle: ServedBundle) -> Iterator[Route]:
    route = Route.of(bundle, open_store(Settings(home=home, feature_repo=REPOSITORY)))
    yield route
    route.fetcher.close()


@st.composite
def queries(draw: st.DrawFn) -> Query:
    users = st.one_of(st.integers(1, 30), st.just(NO_HISTORY), st.just(UNKNOWN_USER))
    items = st.lists(st.integers(1, 60), max_size=30)
    timed = draw(st.booleans())
    subject: Any = draw(users)
    if draw(st.booleans()):
        history = [
            Interaction(item_id=str(item), timestamp_us=(1_700_000_000 + 60 * n) * 1_000_000 if timed else 0)
            for n, item in enumerate(draw(items))
        ]
        subject = Session(history=history)
        for each in history:
            if draw(st.booleans()):
                each.context["interaction_context__ratings"].double_value = draw(st.integers(1, 5))
    return Query(
        subject=subject,
        k=draw(st.sampled_from([1, 2, 5, 10, 20, 33, 59, 60, 100])),
        exclude_seen=draw(st.booleans()),
        history=draw(st.booleans()),
    )


def read(route: Route, asked: list[Query]) -> list[UserFeatures | None]:
    return [
        None if isinstance(query.subject, Session) else route.fetcher.fetch(query.subject, seen=query.exclude_seen)
        for query in asked
    ]


def full(engine: Engine, asked: list[Query], features: list[UserFeatures | None]) -> list[Any]:
    requests = [
        RankRequest(query=query, watch=StageTimer(lambda stage, seconds: None), features=each)
        for query, each in zip(asked, features, strict=True)
    ]
    return engine.rank_many(requests)


def assert_same(quick: QuickAnswer, expected: Answer) -> None:
    found = quick.answer()
    scores = pytest.approx(expected.scores, abs=1e-5)
    for name in ("bundle", "spec_hash", "items", "history", "cold", "plan", "sequence", "degraded", "rerank"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.scores == scores
    assert found.seconds.keys() == expected.seconds.keys() | {"fetch"}
    message, meant = RetrieveResponse.FromString(quick.message()), encode_answer(expected)
    assert [item.score for item in message.items] == scores
    for each in (message, meant):
        del each.timings[:]
        for item in each.items:
            item.score = 0.0
    assert message == meant


def check(engine: Engine, asked: list[Query], features: list[UserFeatures | None]) -> None:
    found = engine.rank_quick(list(zip(asked, features, strict=True)))
    for quick, expected in zip(found, full(engine, asked, features), strict=True):
        if isinstance(expected, RfError):
            assert (type(quick), str(quick)) == (type(expected), str(expected))
        else:
            assert isinstance(quick, QuickAnswer)
            assert_same(quick, expected)


many = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
batches = st.lists(queries(), min_size=1, max_size=64)


@many
@given(asked=batches)
def test_of_a_bundle_as_it_was_built(route: Route, asked: list[Query]) -> None:
    check(route.engine, asked, read(route, asked))


@pytest.fixture(scope="module", params=["exact", "hnsw"])
def changed(
    request: pytest.FixtureRequest, route: Route, bundle: ServedBundle, tmp_path_factory: pytest.TempPathFactory
) -> Engine:
    """An engine whose catalog has new, changed and deleted items, of both kinds of index."""
    journal = CatalogJournal.open(f"sqlite:///{tmp_path_factory.mktemp('journal') / 'registry.db'}")
    text = ItemSchema.of(bundle.encoder).text
    features: list[dict[str, Any]] = [{"item_attributes__genres": ["War"]}, {"item_attributes__release_year": 1990}]
    changes = [
        *(Change(item_id=str(item), features=text(features[item % 2])) for item in (100, 101, 102, 7, 8)),
        *(Change(item_id=str(item), features=None) for item in (1, 2, 9, 30, 102)),
        Change(item_id="9", features=text(features[0])),  # deleted and back
    ]
    for change in changes:
        journal.record([[change]])
    if request.param == "hnsw":
        bundle = replace(bundle, index=HnswIndex.build(np.asarray(bundle.vectors_ND)))
    catalog = LiveCatalog.open(bundle, journal)
    journal.close()
    assert catalog.snapshot.alive == 60 + 2 - 3
    return Engine(bundle, catalog)


@many
@given(asked=batches)
def test_of_a_catalog_that_changed(changed: Engine, route: Route, asked: list[Query]) -> None:
    check(changed, asked, read(route, asked))


@pytest.fixture(scope="module")
def texts(bundle: ServedBundle) -> Engine:
    """An engine whose items have texts for ids, some of them longer than a byte can say."""
    ids = [f"{item}: ü" + "x" * (int(item) * 7 % 300) for item in bundle.item_ids]
    spec = replace(bundle.spec, item=replace(bundle.spec.item, id_type="string"))
    return Engine(replace(bundle, item_ids=ids, row_of_item={each: row for row, each in enumerate(ids)}, spec=spec))


@many
@given(asked=batches)
def test_of_items_with_texts_for_ids(texts: Engine, route: Route, asked: list[Query]) -> None:
    ids: Any = texts.bundle.item_ids
    features = [
        None
        if each is None
        else replace(each, items=[ids[int(i) - 1] for i in each.items], seen=_named(each.seen, ids))
        for each in read(route, asked)
    ]
    for query in asked:
        for interaction in query.subject.history if isinstance(query.subject, Session) else ():
            interaction.item_id = ids[int(interaction.item_id) - 1]
    check(texts, asked, features)


def _named(seen: Any, ids: list[str]) -> list[str] | None:
    return None if seen is None else [ids[item - 1] for item in seen]


def test_with_more_seen_than_an_index_is_asked_for(texts: Engine, route: Route, bundle: ServedBundle) -> None:
    """Nearly everything was seen: the index finds too little, and a scan the rest."""
    short = Engine(replace(bundle, index=_Short.build(np.asarray(bundle.vectors_ND))))
    seen = np.array([item for item in range(1, 61) if item % 12], np.int64)
    asked = [Query(subject=user, k=10, exclude_seen=True) for user in (3, 4, 5)]
    features: list[UserFeatures | None] = [replace(each, seen=seen) for each in read(route, asked) if each is not None]
    check(short, asked, features)
    (first, *_) = short.rank_quick(list(zip(asked, features, strict=True)))
    assert isinstance(first, QuickAnswer)
    assert set(first.answer().items) == {"12", "24", "36", "48", "60"}
    assert first.answer().plan.strategy == SearchPlan.EXACT


class _Short(HnswIndex):
    """Finds half of what it is asked for."""

    def search(self, queries_BD: Any, k: int) -> Found:
        found = super().search(queries_BD, k)
        found.rows[:, (k + 1) // 2 :] = NO_ROW
        return found


def test_what_is_wrong_with_a_request_is_its_own(route: Route) -> None:
    unknown = Query(subject=Session(history=[Interaction(item_id="61")], strict=True), k=5, exclude_seen=True)
    infinite = UserFeatures(items=[1, 2], timestamps=np.array([0, 1]), context={}, profile={})
    good = Query(subject=17, k=5, exclude_seen=True)
    features = route.fetcher.fetch(17, seen=True)
    found = route.engine.rank_quick([(unknown, None), (good, features), (good, infinite)])
    (expected,) = full(route.engine, [good], [features])
    assert isinstance(found[0], UsageError)
    assert str(found[0]).startswith("session.history[0].item_id")
    assert isinstance(found[1], QuickAnswer)
    assert_same(found[1], expected)
    assert route.engine.rank_quick([(unknown, None)])[0].__class__ is UsageError
    assert route.engine.rank_quick([]) == []


def test_a_vector_that_is_not_finite_is_that_requests_error(route: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    queries_of = route.engine._encoder.queries

    def second_broken(*arguments: Any) -> Any:
        queries_BD = queries_of(*arguments).copy()
        queries_BD[1, 3] = np.nan
        return queries_BD

    asked = [Query(subject=user, k=5, exclude_seen=True) for user in (3, 4, 5)]
    features = read(route, asked)
    expected = full(route.engine, asked, features)
    monkeypatch.setattr(route.engine._encoder, "queries", second_broken)
    first, second, third = route.engine.rank_quick(list(zip(asked, features, strict=True)))
    assert isinstance(second, DataError)
    for quick, meant in ((first, expected[0]), (third, expected[2])):
        assert isinstance(quick, QuickAnswer)
        assert_same(quick, meant)
