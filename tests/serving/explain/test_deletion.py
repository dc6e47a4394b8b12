"""What explanations name matters: without these events an item's score falls by more than without as many others."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

if TYPE_CHECKING:
    from rf_serving.catalog.snapshot import CatalogSnapshot
    from rf_serving.explain import Explainer
    from rf_serving.explain.scoring import Scoring
    from rf_serving.user_features.features import KnownFeatures

Rows = npt.NDArray[np.int64]
Named = Callable[["KnownFeatures", Rows], list[list[int]]]
"""Places of the events named for each of some items, strongest first."""
ITEMS, DELETED, DRAWS = 5, 2, 5


@pytest.fixture(scope="module")
def readers(people: "list[KnownFeatures]", trained: Any) -> "list[KnownFeatures]":
    """Every third user, as the model reads them."""
    from rf_serving.explain.user_causes import latest

    return [latest(known, trained.model.config.max_history) for known in people[::3]]


def deleted(known: "KnownFeatures", places: Sequence[int]) -> "KnownFeatures":
    from rf_serving.user_features.features import KnownFeatures

    kept = [place for place in range(len(known.rows)) if place not in places]
    times = None if known.timestamps is None else known.timestamps[kept]
    context = {name: [column[place] for place in kept] for name, column in known.context.items()}
    return KnownFeatures(known.profile, known.rows[kept], times, context)


def drops(
    readers: "list[KnownFeatures]", scoring: "Scoring", catalog: "CatalogSnapshot", named: Named
) -> tuple[float, float, int]:
    """Return how far scores of the best items fall without the named events and without others, on average, and of how many."""
    rng = np.random.default_rng(0)
    all_rows, found = np.arange(catalog.rows), []
    for known in readers:
        scores_N = scoring([known], catalog.vectors(all_rows), catalog)[0]
        rows = np.argsort(-scores_N)[:ITEMS]
        users, whose = [], []
        for k, places in enumerate(named(known, rows)):
            if chosen := places[:DELETED]:
                others = np.setdiff1d(np.arange(len(known.rows)), chosen)
                draws = [rng.choice(others, len(chosen), replace=False).tolist() for _ in range(DRAWS)]
                users += [deleted(known, left_out) for left_out in (chosen, *draws)]
                whose.append(k)
        if users:
            without = scoring(users, catalog.vectors(rows[whose]), catalog).reshape(len(whose), 1 + DRAWS, len(whose))
            for n, k in enumerate(whose):
                fallen = scores_N[rows[k]] - without[n, :, n]
                found.append((fallen[0], fallen[1:].mean()))
    of_named, of_others = np.mean(found, axis=0).tolist()
    return of_named, of_others, len(found)


def explained(explainer: "Explainer", catalog: "CatalogSnapshot", ranker: Any = None) -> Named:
    """The events that explanations say have raised the score."""
    return lambda known, rows: [
        [r.event.position for r in each.reasons if r.WhichOneof("cause") == "event" and r.contribution > 0]
        for each in explainer.explain(known, catalog, rows, ranker)
    ]


def shown(what: str, found: tuple[float, float, int]) -> tuple[float, float, int]:
    message = "%s: the score falls by %.4f without named events, by %.4f without others (%d items)"
    logging.getLogger("deletion").info(message, what, *found)
    return found


def test_events_left_out_of_the_dot_product(
    readers: "list[KnownFeatures]", snapshot: "CatalogSnapshot", encoder: Any, explainer: "Explainer"
) -> None:
    from rf_serving.explain.scoring import DotProduct

    found = drops(readers, DotProduct(encoder), snapshot, explained(explainer, snapshot))
    named, others, items = shown("dot product", found)
    assert items > 50
    assert named > 0.005
    assert named > 3 * others


def test_events_left_out_of_lime(
    readers: "list[KnownFeatures]", snapshot: "CatalogSnapshot", encoder: Any, explainer: "Explainer", lime: Any
) -> None:
    from rf_serving.explain.scoring import Reranked

    found = drops(readers, Reranked(encoder, lime), snapshot, explained(explainer, snapshot, lime))
    named, others, items = shown(lime.kind, found)
    assert items > 50
    assert named > 0.1
    assert named > 3 * others
