"""What is read of a user, where the online store and the bundle do not quite agree."""

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rf_platform.errors import CorruptError, UsageError
from rf_platform.features.store import open_store, quiet
from rf_platform.settings import Settings
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.retrieval.query import Query
from rf_serving.retrieval.retriever import Retriever
from rf_serving.retrieval.routing import Route
from rf_serving.user_features.features import KnownFeatures, UserFeatures
from rf_serving.user_features.fetcher import FeatureFetcher
from rf_serving.wire.ids import parse_id

REPOSITORY = Path(__file__).parents[2] / "feature_repo" / "movielens"


@pytest.fixture
def opened(home_copy: Path) -> tuple[ServedBundle, Any]:
    store = open_store(Settings(home=home_copy, feature_repo=REPOSITORY))
    return ServedBundle.open(home_copy / "bundles" / "tiny-run-1"), store


def plain(features: UserFeatures | KnownFeatures) -> dict[str, Any]:
    return {name: list(column) for name, column in features.context.items()}


def test_items_the_bundle_does_not_have_are_left_out_with_their_context(opened: tuple[ServedBundle, Any]) -> None:
    bundle, store = opened
    features = FeatureFetcher(store, bundle).fetch(17)
    whole = features.known(CatalogSnapshot.of(bundle))
    gone = [1, len(whole.rows) - 1]
    less = {item: row for item, row in bundle.row_of_item.items() if row not in whole.rows[gone]}
    part = features.known(CatalogSnapshot.of(dataclasses.replace(bundle, row_of_item=less)))
    keep = np.delete(np.arange(len(whole.rows)), gone)
    assert part.rows.tolist() == whole.rows[keep].tolist()
    assert whole.timestamps is not None
    assert part.timestamps is not None
    assert part.timestamps.tolist() == whole.timestamps[keep].tolist()
    expected = {name: [values[i] for i in keep] for name, values in plain(whole).items()}
    np.testing.assert_equal(plain(part), expected)
    assert set(expected) == {f"interaction_context__{f}" for f in ("event_types", "ratings", "hours", "weekdays")}


def write_history(store: Any, **arrays: Any) -> None:
    now = pd.Timestamp("2024-06-01T12:00:00Z")
    row: dict[str, Any] = {
        "user_id": [50],
        "event_timestamp": [now],
        "item_ids": [[1, 2, 3]],
        "timestamps": [[now, now, now]],
        "event_types": [["rating"] * 3],
        "ratings": [[1.0, 2.0, 3.0]],
        "hours": [[1, 2, 3]],
        "weekdays": [[1, 2, 3]],
    }
    with quiet():
        store.write_to_online_store("interaction_context", pd.DataFrame(row | arrays))


def test_arrays_that_do_not_fit_together_are_refused(opened: tuple[ServedBundle, Any]) -> None:
    bundle, store = opened
    write_history(store, ratings=[[1.0, 2.0]])
    with pytest.raises(CorruptError, match=r"user_id 50 .* 3 item ids and 2 values of interaction_context.ratings"):
        FeatureFetcher(store, bundle).fetch(50)


def test_an_array_that_is_not_there_is_missing(opened: tuple[ServedBundle, Any]) -> None:
    bundle, store = opened
    write_history(store, ratings=[[]])
    features = FeatureFetcher(store, bundle).fetch(50)
    assert features.items == [1, 2, 3]
    assert "interaction_context__ratings" not in features.context
    assert features.context["interaction_context__hours"] == [1, 2, 3]


@pytest.mark.parametrize("extreme", [1e30, -1e30, 3.4e38])
def test_a_stored_extreme_number_counts_as_the_largest_usual_one(
    opened: tuple[ServedBundle, Any], extreme: float
) -> None:
    bundle, store = opened
    stats = bundle.encoder.numeric["interaction_context__ratings"]
    usual = stats.mean + (20 if extreme > 0 else -20) * stats.std

    def answer(rating: float) -> Any:
        write_history(store, ratings=[[rating, 2.0, 3.0]])
        retriever = Retriever(Route.of(bundle, store))
        try:
            return asyncio.run(retriever.retrieve(Query(subject=50, k=5, exclude_seen=False)))
        finally:
            retriever.close()

    found, expected = answer(extreme), answer(usual)
    assert found.items == expected.items
    assert not found.cold
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_the_search_brings_enough_for_what_is_left_out(opened: tuple[ServedBundle, Any]) -> None:
    bundle, store = opened
    unusable = np.full_like(bundle.vectors_ND, np.nan)  # a scan, which is for approximate indexes, would show
    retriever = Retriever(Route.of(dataclasses.replace(bundle, vectors_ND=unusable), store))
    try:
        answer = asyncio.run(retriever.retrieve(Query(subject=30, k=40, exclude_seen=True)))
        assert len(answer.items) == 40
        assert np.isfinite(answer.scores).all()
    finally:
        retriever.close()


def test_ids_are_taken_without_white_space_around_them() -> None:
    assert parse_id("007", "string", "user_id") == "007"
    assert parse_id("\t00 7\u3000\n", "string", "user_id") == "00 7"
    assert parse_id("-7", "int64", "user_id") == parse_id(" -7\r\n", "int64", "user_id") == -7
    for text, id_type in (
        ("", "string"),
        ("1_000", "int64"),
        ("٣", "int64"),
        ("+5", "int64"),
        (str(2**63), "int64"),
        (" \t", "string"),
    ):
        with pytest.raises(UsageError, match=r"^user_id: "):
            parse_id(text, "string" if id_type == "string" else "int64", "user_id")
