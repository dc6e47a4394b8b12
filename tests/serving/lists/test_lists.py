"""Lists of a bundle's catalog against orders made by hand."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rf_platform.features.event_weights import EventWeights
from rf_platform.policies import ListDefinition
from rf_serving.event_counts import Counted, CountOf, FirstOf
from rf_serving.event_counts.co_occurrence import CoOccurrence
from rf_serving.lists import ListQuery, Lists, counts_of
from rf_serving.lists.lists import FRESH_SECONDS
from rf_serving.search.condition import Condition, Operator
from rf_serving.search.eligibility import Eligibility

DAY_US = 86_400_000_000
GENRES, YEAR = "item_attributes__genres", "item_attributes__release_year"


@pytest.fixture(scope="module")
def snapshot(home: Path) -> Any:
    """60 items, numbered from 1."""
    from rf_serving.bundle.served import ServedBundle
    from rf_serving.catalog.snapshot import CatalogSnapshot

    return CatalogSnapshot.of(ServedBundle.open(home / "bundles" / "tiny-run-1"))


def counted(scores: Mapping[CountOf | FirstOf, Mapping[int, float]], position: int = 1) -> Counted:
    ids = sorted({item for each in scores.values() for item in each})
    by = {of: np.array([each.get(item, 0.0) for item in ids]) for of, each in scores.items()}
    return Counted(position=position, ids=ids, by=by, together=CoOccurrence())


def popular(**given: Any) -> ListDefinition:
    return ListDefinition(kind="popular", half_life_days=2, **given)


@pytest.fixture
def make(snapshot: Any) -> Callable[..., tuple[Lists, SimpleNamespace]]:
    def of(now: Counted | None) -> tuple[Lists, SimpleNamespace]:
        state = SimpleNamespace(counted=now, seconds=0.0)
        lists = Lists(Eligibility(snapshot.bundle.spec), lambda: state.counted, lambda: state.seconds)
        return lists, state

    return of


def ids(lists: Lists, snapshot: Any, definition: ListDefinition, *where: Condition) -> list[int]:
    rows = lists.rows(ListQuery(definition=definition, where=frozenset(where)), snapshot)
    return [int(text) for text in snapshot.texts(rows.tolist())]


def test_popular_items_come_by_their_counts_then_by_their_ids(make: Any, snapshot: Any) -> None:
    (of,) = counts_of(popular())
    assert of == CountOf(half_life_us=2 * DAY_US)
    scores = {7: 2.5, 12: 4.0, 3: 2.5, 40: 0.5, 999: 9.0, 8: 0.0}  # 999 is in no catalog, 8 has no event
    lists, _ = make(counted({of: scores}))
    assert ids(lists, snapshot, popular()) == [12, 3, 7, 40]
    assert ids(lists, snapshot, popular(length=2)) == [12, 3]
    values = dict(zip(range(1, 61), snapshot.values(np.arange(60)), strict=True))
    war = Condition(feature=GENRES, operator=Operator.ANY_OF, values=("War",))
    assert ids(lists, snapshot, popular(), war) == [i for i in (12, 3, 7, 40) if "War" in values[i][GENRES]]


def test_trending_items_rise_against_their_own_past(make: Any, snapshot: Any) -> None:
    definition = ListDefinition(kind="trending", half_life_days=1, smoothing=5)
    recent, past = counts_of(definition)
    assert isinstance(recent, CountOf)
    assert isinstance(past, CountOf)
    assert (recent.half_life_us, past.half_life_us) == (DAY_US, 8 * DAY_US)
    lists, _ = make(
        counted(
            {
                recent: {1: 100.0, 2: 50.0, 3: 1.0, 4: 10.0, 5: 3.0},
                past: {1: 800.0, 2: 56.0, 3: 1.0, 4: 200.0, 5: 3.0},
            }
        )
    )
    # 1: 105/105, 2: 55/12, 3: 6/5.125, 4: 15/30, 5: 8/5.375
    assert ids(lists, snapshot, definition) == [2, 5, 3]
    rough = definition.model_copy(update={"smoothing": 0.1})  # 5: 3.1/.475, 3: 1.1/.225, 2: 50.1/7.1
    assert ids(lists, snapshot, rough) == [2, 5, 3]


def test_new_items_come_by_their_time_and_need_no_counts(make: Any, snapshot: Any) -> None:
    definition = ListDefinition(kind="new", feature=YEAR, length=20)
    lists, _ = make(None)
    years = {i: row[YEAR] for i, row in enumerate(snapshot.values(np.arange(60)), 1)}
    assert ids(lists, snapshot, definition) == sorted(years, key=lambda i: (-years[i], i))[:20]


def test_new_items_without_a_time_come_by_their_first_event(make: Any, snapshot: Any) -> None:
    definition = ListDefinition(kind="new", event_types=("buy", "view"), length=3)
    (of,) = counts_of(definition)
    assert of == FirstOf(event_types=("buy", "view"))
    lists, _ = make(counted({of: {7: 2e15, 12: 1e15, 3: 2e15, 40: 3e15, 999: 9e15, 8: 0.0}}))
    assert ids(lists, snapshot, definition) == [40, 3, 7]


def test_events_weigh_as_the_policy_says_else_as_the_feature_repository_does() -> None:
    declared = EventWeights(types=(("buy", 3.0),))
    definition = ListDefinition(kind="trending", weights={"view": 0.5, "buy": 2})
    of = {each.weights for each in counts_of(definition, declared) if isinstance(each, CountOf)}
    assert of == {EventWeights(types=(("buy", 2.0), ("view", 0.5)))}
    assert hash(ListQuery(definition=definition)) == hash(ListQuery(definition=definition.model_copy()))
    for given, expected in (({}, None), (None, declared)):
        (of_list,) = counts_of(popular(weights=given), declared)
        assert of_list == CountOf(half_life_us=2 * DAY_US, weights=expected)


def test_a_list_is_kept_for_a_moment_then_follows_the_counts(make: Any, snapshot: Any) -> None:
    (of,) = counts_of(popular())
    lists, state = make(None)
    assert ids(lists, snapshot, popular()) == []
    state.counted = counted({of: {5: 1.0}})
    state.seconds = FRESH_SECONDS + 0.1
    assert ids(lists, snapshot, popular()) == [5]
    state.counted = counted({of: {5: 1.0, 6: 2.0}}, position=2)
    state.seconds += FRESH_SECONDS / 2
    assert ids(lists, snapshot, popular()) == [5]
    state.seconds += FRESH_SECONDS
    assert ids(lists, snapshot, popular()) == [6, 5]
