"""Contributions are what real answers without the cause say, for every kind of cause and of whoever asks."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from rf_protos.v1.explanation_pb2 import Explanation, FeatureCause, Reason
from rf_protos.v1.retrieval_pb2 import Interaction, Session

if TYPE_CHECKING:
    from rf_serving.explain import Explainer
    from rf_serving.user_features.features import UserFeatures

GENRES, YEAR, WORDS = (f"item_attributes__{name}" for name in ("genres", "release_year", "title_words"))
GENDER = "user_profile__gender"
USER = 7


@pytest.fixture(scope="module")
def engine(trained: Any) -> Any:
    from rf_serving.retrieval.engine import Engine

    return Engine(trained)


@pytest.fixture(scope="module")
def features(people: list[Any], snapshot: Any) -> "UserFeatures":
    """A user's, as the store has them: more events than the model reads."""
    from rf_serving.user_features.features import UserFeatures

    known = people[USER - 1]
    items = [int(text) for text in snapshot.texts(known.rows.tolist())]
    return UserFeatures(profile=known.profile, items=items, timestamps=known.timestamps, context=known.context)


def scores(engine: Any, features: "UserFeatures") -> dict[str, float]:
    """What the engine answers: the score of every item."""
    from rf_serving.retrieval.query import Query
    from rf_serving.stage_timer import StageTimer

    query = Query(subject=USER, k=engine.catalog.snapshot.alive, exclude_seen=False)
    answer = engine.rank(features, query, StageTimer(lambda stage, seconds: None))
    return dict(zip(answer.items, answer.scores, strict=True))


def events(explanation: Explanation) -> list[Reason]:
    return [reason for reason in explanation.reasons if reason.WhichOneof("cause") == "event"]


def of_features(explanation: Explanation, side: Any) -> dict[str, float]:
    return {
        r.feature.name: r.contribution for r in explanation.reasons if r.HasField("feature") and r.feature.side == side
    }


@pytest.fixture
def change(trained: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Changes the catalog and returns an engine on it: ``change({200: {"item_attributes__genres": ["Drama"]}})``."""
    from rf_platform.registry.journal import CatalogJournal, Change
    from rf_serving.catalog.live import LiveCatalog
    from rf_serving.retrieval.engine import Engine

    journal = CatalogJournal.open(f"sqlite:///{tmp_path / 'registry.db'}")
    catalog = LiveCatalog.open(trained, journal)

    def changed(items: dict[int, dict[str, Any]]) -> Any:
        journal.record([[Change(item_id=str(k), features=catalog.schema.text(v)) for k, v in items.items()]])
        catalog.catch_up()
        return Engine(trained, catalog)

    yield changed
    catalog.close()
    journal.close()


def test_events_are_left_out_of_what_is_read(
    engine: Any, features: "UserFeatures", explainer: "Explainer", trained: Any, snapshot: Any
) -> None:
    from rf_serving.user_features.features import UserFeatures

    first = len(features.items) - trained.model.config.max_history
    assert first > 0
    answered = scores(engine, features)
    best = sorted(answered, key=lambda item: -answered[item])[:3]
    explanations = explainer.explain(features.known(snapshot), snapshot, snapshot.rows_of([int(i) for i in best]))
    assert sum(len(events(each)) for each in explanations) == 15
    for item, explanation in zip(best, explanations, strict=True):
        for reason in events(explanation):
            assert first <= reason.event.position < len(features.items)
            assert reason.event.item_id == str(features.items[reason.event.position])
            kept = [place for place in range(first, len(features.items)) if place != reason.event.position]
            without = UserFeatures(
                profile=features.profile,
                items=[features.items[place] for place in kept],
                timestamps=None if features.timestamps is None else features.timestamps[kept],
                context={name: [column[place] for place in kept] for name, column in features.context.items()},
            )
            assert reason.contribution == pytest.approx(answered[item] - scores(engine, without)[item], abs=1e-5)


def test_features_of_the_user_are_left_out(
    engine: Any, features: "UserFeatures", explainer: "Explainer", snapshot: Any
) -> None:
    answered, rows = scores(engine, features), np.arange(4)
    found = [
        of_features(each, FeatureCause.USER) for each in explainer.explain(features.known(snapshot), snapshot, rows)
    ]
    assert any(found)
    for item, contributions in zip(snapshot.texts(rows.tolist()), found, strict=True):
        for name, contribution in contributions.items():
            others = {key: value for key, value in features.profile.items() if key != name}
            without = scores(engine, replace(features, profile=others))[item]
            assert contribution == pytest.approx(answered[item] - without, abs=1e-5)


def test_an_item_without_a_feature_or_an_identity_is_one_that_is_upserted_so(
    engine: Any, features: "UserFeatures", explainer: "Explainer", snapshot: Any, change: Callable[..., Any]
) -> None:
    row = np.array([5])
    (item,), (values,) = snapshot.texts(row.tolist()), snapshot.values(row)
    (explanation,) = explainer.explain(features.known(snapshot), snapshot, row)
    found = of_features(explanation, FeatureCause.ITEM)
    assert {GENRES, "item_id"} <= set(found)
    score = scores(engine, features)[item]
    live = change({int(item): {k: v for k, v in values.items() if k != GENRES}, 999: values})
    assert found[GENRES] == pytest.approx(score - scores(live, features)[item], abs=1e-5)
    assert found["item_id"] == pytest.approx(score - scores(live, features)["999"], abs=1e-5)


def test_live_items_have_no_identity_and_items_without_features_have_none_to_name(
    features: "UserFeatures", explainer: "Explainer", change: Callable[..., Any]
) -> None:
    catalog = change({998: {GENRES: ["Drama"], YEAR: 1991}, 999: {}}).catalog.snapshot
    rows = catalog.rows_of([998, 999])
    some, none = explainer.explain(features.known(catalog), catalog, rows)
    assert set(of_features(some, FeatureCause.ITEM)) == {GENRES, YEAR}
    assert of_features(none, FeatureCause.ITEM) == {}
    assert events(none)
    item, vector = of_features(some, FeatureCause.ITEM), catalog.vectors(rows)[1]
    assert item[GENRES] != pytest.approx(item[YEAR])
    assert np.isfinite(vector).all()


def test_nobody_and_a_profile_alone(people: list[Any], explainer: "Explainer", snapshot: Any) -> None:
    from rf_serving.explain.user_causes import latest
    from rf_serving.user_features.features import UserFeatures

    rows = np.arange(3)
    for explanation in explainer.explain(latest(people[0], 0), snapshot, rows):
        assert not events(explanation)
        named = set(of_features(explanation, FeatureCause.USER))  # the strongest, beside those of the item
        assert named
        assert named <= {name for name, value in people[0].profile.items() if value is not None}
    for explanation in explainer.explain(UserFeatures().known(snapshot), snapshot, rows):
        assert of_features(explanation, FeatureCause.ITEM)
        assert not events(explanation)
        assert not of_features(explanation, FeatureCause.USER)
    assert explainer.explain(people[0], snapshot, rows[:0]) == []


def test_a_session_with_one_item_twice(trained: Any, explainer: "Explainer", snapshot: Any) -> None:
    from rf_serving.user_features.session import SessionReader

    session = Session(history=[Interaction(item_id=item) for item in ("101", "107", "101")])
    known = SessionReader(trained).read(session, snapshot).known(snapshot)
    (explanation,) = explainer.explain(known, snapshot, np.array([20]))
    named = {reason.event.position: reason.event.item_id for reason in events(explanation)}
    assert named == {0: "101", 1: "107", 2: "101"}


def test_strongest_first_and_no_more_than_asked_for(
    people: list[Any], explainer: "Explainer", snapshot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rf_serving.explain import explainer as module
    from rf_serving.explain import user_causes
    from rf_serving.explain.explainer import MAX_ITEMS, REASONS

    rows = np.arange(MAX_ITEMS + 5)
    whole = explainer.explain(people[0], snapshot, rows)
    assert len(whole) == MAX_ITEMS
    for explanation in whole:
        sizes = [abs(reason.contribution) for reason in explanation.reasons]
        assert sizes == sorted(sizes, reverse=True)
        assert len(events(explanation)) == REASONS
        assert len(sizes) - REASONS <= REASONS
    monkeypatch.setattr(user_causes, "INTERACTIONS_AT_ONCE", 25)
    monkeypatch.setattr(module, "ITEMS_AT_ONCE", 3)
    for one, other in zip(explainer.explain(people[0], snapshot, rows[:7]), whole, strict=False):
        assert [r.contribution for r in one.reasons] == pytest.approx([r.contribution for r in other.reasons], abs=1e-5)
    monkeypatch.setattr(module, "MAX_EVENTS", 2)
    (few,) = explainer.explain(people[0], snapshot, rows[:1])
    assert {reason.event.position for reason in events(few)} == {len(people[0].rows) - 2, len(people[0].rows) - 1}


def test_no_more_than_there_is_time_for(
    people: list[Any], explainer: "Explainer", snapshot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rf_serving.explain import explainer as module

    assert explainer.explain(people[0], snapshot, np.arange(3), until=0.0) == []
    ticks = iter(range(100))
    monkeypatch.setattr(module, "perf_counter", lambda: 1e12 * (next(ticks) >= 2))
    monkeypatch.setattr(module, "ITEMS_AT_ONCE", 1)
    assert len(explainer.explain(people[0], snapshot, np.arange(3), until=1e12)) == 2


def test_features_are_left_out_of_the_score_of_lime(
    people: list[Any], explainer: "Explainer", snapshot: Any, encoder: Any, lime: Any
) -> None:
    from rf_serving.explain.scoring import Reranked
    from rf_serving.explain.user_causes import latest
    from rf_serving.user_features.features import KnownFeatures

    known, rows = latest(people[0], 12), np.arange(20)
    without = KnownFeatures(
        {k: v for k, v in known.profile.items() if k != GENDER}, known.rows, known.timestamps, known.context
    )
    score, less = Reranked(encoder, lime)([known, without], snapshot.vectors(rows), snapshot)
    explanations = explainer.explain(people[0], snapshot, rows, lime)
    for explanation, moved in zip(explanations, (score - less).tolist(), strict=True):
        assert len(events(explanation)) == 5
        assert all(0 < reason.link_attention < 1 for reason in events(explanation))
        assert of_features(explanation, FeatureCause.USER).get(GENDER, moved) == pytest.approx(moved, abs=1e-4)
    assert any(GENDER in of_features(each, FeatureCause.USER) for each in explanations)


def test_an_event_counts_as_far_as_the_links_of_an_item_read_it(
    people: list[Any], encoder: Any, snapshot: Any, lime: Any
) -> None:
    """By the definition, from what the re-ranker tells of its attention."""
    import torch

    from rf_serving.explain.scoring import link_shares
    from rf_serving.explain.user_causes import latest
    from rf_serving.ranking.lime import histories_of

    known, rows = latest(people[0], 12), np.arange(3)
    found_TK = link_shares(encoder, lime, known, snapshot.vectors(rows), snapshot)
    assert found_TK.sum(0) == pytest.approx(np.ones(3), abs=1e-5)
    histories = histories_of(encoder.encode_users([known], snapshot))
    attention_HLT = lime.link_attention(histories)[0].detach()
    units_KD = torch.from_numpy(snapshot.vectors(rows)[:, : lime.dim])
    weight_KLH = lime.link_weights(lime.item_state(units_KD)).detach().abs()
    for k in range(3):
        read_T = sum(
            float(weight_KLH[k, link, head]) * attention_HLT[head, link].numpy()
            for link in range(weight_KLH.shape[1])
            for head in range(weight_KLH.shape[2])
        )
        assert found_TK[:, k] == pytest.approx(read_T / read_T.sum(), rel=1e-4)


def test_the_most_popular_items_are_known_by_their_identity() -> None:
    from rf_serving.explain import explain_popular

    first, last = explain_popular([0.25, 0.0])
    assert of_features(first, FeatureCause.ITEM) == {"item_id": 0.25}
    assert not last.reasons
