"""Items move by their first users: the same way everywhere, through replay, other bundles, upserts, deletes and compaction."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rf_platform.registry.evidence import EvidenceJournal, FirstUser
from rf_platform.registry.journal import CatalogJournal
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.compaction.compactor import Compaction
from rf_serving.catalog.learned import learned_by_all
from rf_serving.catalog.live import LiveCatalog
from rf_serving.deployment.first_users import first_users_of
from rf_training.fold_in.rule import MOST_USERS, Evidence, unit

Put = Callable[[Mapping[int, Mapping[str, Any] | None]], list[int]]
WAR = {"title": "War again", "genres": ["War"], "release_year": 1990}
LOVE = {"title": "Love again", "genres": ["Comedy"], "release_year": 1970}
NEW = 9001


@pytest.fixture
def evidence(journal: CatalogJournal) -> EvidenceJournal:
    return EvidenceJournal(journal.engine)


@pytest.fixture
def open_catalog(bundle: ServedBundle, journal: CatalogJournal) -> Callable[..., LiveCatalog]:
    def opened(of: ServedBundle = bundle, **options: Any) -> LiveCatalog:
        catalog = LiveCatalog.open(of, journal, **options)
        first_users = first_users_of(catalog, journal)
        assert first_users is not None
        catalog.learn_from(first_users)
        return catalog

    return opened


def queries(bundle: ServedBundle, count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return unit(rng.normal(size=(count, bundle.model.config.dim)).astype(np.float32))


def first_user(
    of: ServedBundle, item: int, user: int | str, query_D: npt.NDArray[np.float32], **more: Any
) -> FirstUser:
    given: dict[str, Any] = {"bundle": of.name, "features": "{}", "timestamp_us": int(time.time() * 1e6), "event": 1}
    return FirstUser(item_id=str(item), user_id=str(user), query=query_D.astype("<f4").tobytes(), **(given | more))


def vector(catalog: LiveCatalog, item: int) -> npt.NDArray[np.float32]:
    snapshot = catalog.snapshot
    found: npt.NDArray[np.float32] = snapshot.vectors(snapshot.rows_of([item]))[0, : catalog.bundle.model.config.dim]
    return found


def test_a_new_item_moves_by_the_rule_and_the_others_stay(
    bundle: ServedBundle, put: Put, evidence: EvidenceJournal, open_catalog: Callable[..., LiveCatalog]
) -> None:
    put({NEW: WAR})
    catalog = open_catalog()
    built_D, before = vector(catalog, NEW), catalog.snapshot
    assert catalog.learn() == 0
    assert catalog.snapshot is before

    query_BD = queries(bundle, 3)
    evidence.record([first_user(bundle, NEW, n, query_D) for n, query_D in enumerate(query_BD)], MOST_USERS)
    assert catalog.learn() == 1
    assert bundle.fold_in is not None
    said = Evidence(query_BD.sum(axis=0, keepdims=True), np.array([3]))
    expected_D = bundle.fold_in.moved(built_D[None], np.zeros(1, np.int64), said)[0]
    np.testing.assert_allclose(vector(catalog, NEW), expected_D, atol=1e-5)
    assert np.abs(expected_D - built_D).max() > 0.01
    now = catalog.snapshot
    assert (now.alive, now.sequence) == (before.alive, before.sequence)
    np.testing.assert_array_equal(now.vectors(np.arange(60)), before.vectors(np.arange(60)))
    rows = [each.rows_of([NEW]) for each in (now, before)]
    assert now.values(rows[0]) == before.values(rows[1])
    assert now.sequences(rows[0]) == before.sequences(rows[1])
    np.testing.assert_allclose(now.tokens(rows[0]), before.tokens(rows[1]), atol=1e-6)  # histories read what it is
    np.testing.assert_array_equal(before.vectors(rows[1])[0, : len(built_D)], built_D)  # a snapshot does not change
    assert rows[0][0] in now.search(now.vectors(rows[0]), 3).rows


def test_one_user_moves_it_once_and_never_by_more_than_one_event(
    bundle: ServedBundle, put: Put, evidence: EvidenceJournal, open_catalog: Callable[..., LiveCatalog]
) -> None:
    put({NEW: WAR, NEW + 1: WAR})
    catalog = open_catalog()
    worst_D = 1e6 * -vector(catalog, NEW)
    evidence.record([first_user(bundle, NEW + 1, "honest", worst_D / 1e6)], MOST_USERS)
    for n in range(300):
        evidence.record([first_user(bundle, NEW, "attacker", worst_D, event=n)], MOST_USERS)
    catalog.learn()
    np.testing.assert_allclose(vector(catalog, NEW), vector(catalog, NEW + 1), atol=1e-4)


def test_all_processes_agree_whenever_they_look(
    bundle: ServedBundle, put: Put, evidence: EvidenceJournal, open_catalog: Callable[..., LiveCatalog]
) -> None:
    put({NEW: WAR})
    often = open_catalog()
    for n, query_D in enumerate(queries(bundle, 12)):
        evidence.record([first_user(bundle, NEW, n, query_D), first_user(bundle, 5, n, query_D)], MOST_USERS)
        often.learn()
    late = open_catalog()
    for item in (NEW, 5):
        np.testing.assert_allclose(vector(often, item), vector(late, item), atol=1e-6)
    assert often.snapshot.alive == late.snapshot.alive == 61


def test_an_item_with_many_training_events_hardly_moves(
    bundle: ServedBundle, evidence: EvidenceJournal, open_catalog: Callable[..., LiveCatalog]
) -> None:
    assert bundle.popularity_N is not None
    counts_N = bundle.popularity_N.copy()
    counts_N[:2] = 0, 5000
    catalog = open_catalog(replace(bundle, popularity_N=counts_N))
    items = [int(item) for item in bundle.item_ids[:2]]
    before = [vector(catalog, item) for item in items]
    for item in items:
        users = [first_user(bundle, item, n, query_D) for n, query_D in enumerate(queries(bundle, 10))]
        evidence.record(users, MOST_USERS)
    catalog.learn()
    new, known = (float(vector(catalog, item) @ was_D) for item, was_D in zip(items, before, strict=True))
    assert known > 0.999 > new


def test_what_training_has_met_is_not_counted_again(
    bundle: ServedBundle, evidence: EvidenceJournal, open_catalog: Callable[..., LiveCatalog]
) -> None:
    assert bundle.popularity_N is not None
    assert bundle.fold_in is not None
    item = int(bundle.item_ids[int(np.argmax(bundle.popularity_N))])
    (query_D,) = queries(bundle, 1)
    evidence.record([first_user(bundle, item, "a", query_D, timestamp_us=bundle.fold_in.until_us)], MOST_USERS)
    catalog = open_catalog()
    assert catalog.first_users is not None
    assert catalog.first_users.items == set()
    evidence.record([first_user(bundle, item, "b", query_D, timestamp_us=bundle.fold_in.until_us + 1)], MOST_USERS)
    catalog.learn()
    assert catalog.first_users.items == {str(item)}


def test_first_users_that_no_bundle_counts_can_go(
    bundle: ServedBundle, put: Put, evidence: EvidenceJournal, open_catalog: Callable[..., LiveCatalog]
) -> None:
    assert bundle.popularity_N is not None
    assert bundle.fold_in is not None
    put({NEW: WAR})
    item, until_us = int(bundle.item_ids[int(np.argmax(bundle.popularity_N))]), bundle.fold_in.until_us
    query_D, ages = queries(bundle, 1)[0], {"met": until_us, "met before": until_us - 5, "since": until_us + 1}
    users = [first_user(bundle, item, name, query_D, timestamp_us=time_us) for name, time_us in ages.items()]
    users.append(first_user(bundle, NEW, "of a new item", query_D, timestamp_us=until_us))
    evidence.record(users, MOST_USERS)
    before = open_catalog()
    with_vectors = [vector(before, each) for each in (item, NEW)]
    assert learned_by_all(evidence, [bundle.path], until_us - 5) == []
    learned = learned_by_all(evidence, [bundle.path], until_us + 10)
    evidence.remove(learned)
    assert {each.user_id for each in evidence.read(0)} == {"since", "of a new item"}
    np.testing.assert_array_equal([vector(open_catalog(), each) for each in (item, NEW)], with_vectors)
    # A bundle that has met none of them keeps what it counts; one without a rule counts none.
    assert len(learned_by_all(evidence, [], until_us + 10)) == 2


def test_another_user_tower_encodes_the_same_users_anew(
    bundle: ServedBundle, put: Put, evidence: EvidenceJournal, open_catalog: Callable[..., LiveCatalog]
) -> None:
    """Evidence of a bundle that is gone has its features; the vectors of that bundle's queries mean nothing here."""
    put({NEW: WAR, NEW + 1: WAR})
    features = json.dumps({"profile": {}, "items": [3, 4, 5], "timestamps": None, "context": {}})
    catalog = open_catalog()
    assert catalog.first_users is not None
    (own_D,) = catalog.first_users.encode([features])
    meaningless_D = queries(bundle, 1)[0]
    evidence.record(
        [
            first_user(bundle, NEW, "a", meaningless_D, bundle="gone", features=features),
            first_user(bundle, NEW + 1, "a", unit(own_D[None])[0], features=features),
        ],
        MOST_USERS,
    )
    catalog.learn()
    np.testing.assert_allclose(vector(catalog, NEW), vector(catalog, NEW + 1), atol=1e-5)
    empty = json.dumps({"profile": {}, "items": [], "timestamps": None, "context": {}})
    evidence.record([first_user(bundle, NEW, "b", meaningless_D, bundle="gone", features=empty)], MOST_USERS)
    assert catalog.learn() == 0  # nobody knows what such a user says


def test_new_features_are_where_its_users_pull_from_then_on(
    bundle: ServedBundle, put: Put, evidence: EvidenceJournal, open_catalog: Callable[..., LiveCatalog]
) -> None:
    put({NEW: WAR})
    catalog = open_catalog()
    users = [first_user(bundle, NEW, n, query_D) for n, query_D in enumerate(queries(bundle, 4))]
    evidence.record(users, MOST_USERS)
    catalog.learn()
    put({NEW: LOVE})
    catalog.catch_up()
    fresh = open_catalog()
    np.testing.assert_allclose(vector(catalog, NEW), vector(fresh, NEW), atol=1e-5)


def test_a_deleted_item_comes_back_without_its_users(
    bundle: ServedBundle, put: Put, evidence: EvidenceJournal, open_catalog: Callable[..., LiveCatalog]
) -> None:
    put({NEW: WAR})
    catalog = open_catalog()
    built_D = vector(catalog, NEW)
    evidence.record([first_user(bundle, NEW, "a", queries(bundle, 1)[0])], MOST_USERS)
    catalog.learn()
    assert np.abs(vector(catalog, NEW) - built_D).max() > 1e-3
    put({NEW: None})
    catalog.catch_up()
    assert catalog.learn() == 0
    put({NEW: WAR})
    catalog.catch_up()
    catalog.learn()
    for each in (catalog, open_catalog()):
        np.testing.assert_allclose(vector(each, NEW), built_D, atol=1e-6)


def test_an_item_that_is_deleted_and_back_at_once_has_the_same_users_everywhere(
    bundle: ServedBundle, put: Put, evidence: EvidenceJournal, open_catalog: Callable[..., LiveCatalog]
) -> None:
    put({NEW: WAR})
    catalog = open_catalog()
    old_D, new_D = queries(bundle, 2)
    evidence.record([first_user(bundle, NEW, "a", old_D)], MOST_USERS)
    catalog.learn()
    put({NEW: None})
    put({NEW: WAR})
    evidence.record([first_user(bundle, NEW, "b", new_D)], MOST_USERS)
    for first in (catalog.learn, catalog.catch_up):  # whatever comes first, of evidence and journal
        first()
    catalog.learn()
    np.testing.assert_allclose(vector(catalog, NEW), vector(open_catalog(), NEW), atol=1e-5)


def test_rows_that_moves_leave_behind_do_not_pile_up(
    bundle: ServedBundle, evidence: EvidenceJournal, open_catalog: Callable[..., LiveCatalog]
) -> None:
    catalog = open_catalog()
    query_BD = queries(bundle, 45)
    for n, query_D in enumerate(query_BD):
        evidence.record([first_user(bundle, item, n, query_D) for item in range(1, 21)], MOST_USERS)
        catalog.learn()
    assert catalog.snapshot.rows - 60 <= 2 * 20 + 256 + 20  # 900 moves
    assert catalog.snapshot.alive == 60
    late = open_catalog()
    for item in (1, 20, 21):
        np.testing.assert_allclose(vector(catalog, item), vector(late, item), atol=1e-5)
    found = catalog.snapshot.search(query_BD[:1], 60).rows[0]
    assert len(set(catalog.snapshot.texts(found.tolist()))) == 60


def test_compaction_keeps_where_they_are(
    bundle: ServedBundle, put: Put, evidence: EvidenceJournal, open_catalog: Callable[..., LiveCatalog], tmp_path: Path
) -> None:
    soon = Compaction(rows=20, deleted_ratio=2.0, niceness=0)
    catalog = open_catalog(cache=tmp_path / "cache", compaction=soon)
    catalog.follow()
    with closing(catalog):
        evidence.record([first_user(bundle, 5, n, q_D) for n, q_D in enumerate(queries(bundle, 5))], MOST_USERS)
        put(dict.fromkeys(range(NEW, NEW + 25), WAR))
        deadline = time.monotonic() + 60
        while catalog.snapshot.base.sequence != 25:
            evidence.record([first_user(bundle, NEW, time.monotonic_ns(), queries(bundle, 1)[0])], MOST_USERS)
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)
        with closing(open_catalog()) as plain:
            for item in (5, NEW, NEW + 1):
                np.testing.assert_allclose(vector(catalog, item), vector(plain, item), atol=1e-5)
