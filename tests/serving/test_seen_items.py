"""What exclude_seen leaves out: all that the user ever did, however short the history is that the model reads."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from structlog.testing import LogCapture

from rf_platform.doctor.check import Status
from rf_platform.doctor.stores import check_seen_sets
from rf_platform.features.store import open_store, quiet
from rf_platform.settings import Settings
from rf_protos.v1.retrieval_pb2 import Interaction, Session
from rf_serving.batch.run import BatchQuery, answer_users
from rf_serving.batch.users import Users
from rf_serving.bundle.served import ServedBundle
from rf_serving.retrieval.query import Query
from rf_serving.retrieval.retriever import Retriever
from rf_serving.retrieval.routing import Route

REPOSITORY = Path(__file__).parents[2] / "feature_repo" / "movielens"
ITEMS, USER = 60, 30
"""The user has seen 20 items."""


class Opened:
    """A workspace in which that user's history has the last three interactions only."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, feature_repo=REPOSITORY)
        self.bundle = ServedBundle.open(home / "bundles" / "tiny-run-1")
        self.store: Any = open_store(self.settings)
        log = pq.read_table(home / "tables" / "interactions.parquet").to_pylist()
        self.seen = {str(row["item_id"]) for row in log if row["user_id"] == USER}
        assert len(self.seen) == 20
        self.last = sorted(map(int, self.seen))[:3]
        now = pd.Timestamp("2024-06-01T12:00:00Z")
        row = {
            "user_id": [USER],
            "event_timestamp": [now],
            "item_ids": [self.last],
            "timestamps": [[now] * 3],
            "event_types": [["rating"] * 3],
            "ratings": [[1.0] * 3],
            "hours": [[1] * 3],
            "weekdays": [[1] * 3],
        }
        with quiet():
            self.store.write_to_online_store("interaction_context", pd.DataFrame(row))
        self.every = {str(item) for item in self.bundle.item_ids}

    @property
    def database(self) -> Path:
        return self.settings.workspace.feast / "online.db"

    @contextmanager
    def retriever(self) -> Iterator[Retriever]:
        retriever = Retriever(Route.of(self.bundle, self.store))
        yield retriever
        retriever.close()


@pytest.fixture
def opened(home_copy: Path) -> Opened:
    return Opened(home_copy)


def ask(retriever: Retriever, k: int = ITEMS, subject: Any = USER, *, exclude_seen: bool = True) -> list[str]:
    answer = asyncio.run(retriever.retrieve(Query(subject=subject, k=k, exclude_seen=exclude_seen)))
    assert not answer.degraded
    assert len(set(answer.items)) == len(answer.items)
    return answer.items


def test_what_is_older_than_the_history_stays_out(opened: Opened, tmp_path: Path) -> None:
    with opened.retriever() as retriever:
        assert set(ask(retriever)) == opened.every - opened.seen
        assert len(ask(retriever, ITEMS - 20)) == ITEMS - 20
        kept = ask(retriever, exclude_seen=False)
        assert set(kept) == opened.every
        assert ask(retriever) == [item for item in kept if item not in opened.seen]
        route = retriever.routing.active
        answer_users(route, Users(1, iter([[USER]])), BatchQuery(k=ITEMS, exclude_seen=True), tmp_path / "top.parquet")
        (row,) = pq.read_table(tmp_path / "top.parquet").to_pylist()
        assert [str(item) for item in row["items"]] == ask(retriever)


def test_requests_that_are_read_together_get_what_each_asked_for(opened: Opened) -> None:
    async def both(retriever: Retriever) -> list[set[str]]:
        queries = [Query(subject=USER, k=ITEMS, exclude_seen=n % 2 == 0) for n in range(6)]
        return [set(answer.items) for answer in await asyncio.gather(*map(retriever.retrieve, queries))]

    with opened.retriever() as retriever:
        assert asyncio.run(both(retriever)) == 3 * [opened.every - opened.seen, opened.every]


def test_a_session_has_seen_what_it_says(opened: Opened) -> None:
    session = Session(history=[Interaction(item_id=str(item)) for item in opened.last])
    with opened.retriever() as retriever:
        assert set(ask(retriever, subject=session)) == opened.every - {str(item) for item in opened.last}


def test_a_catalog_without_some_of_the_items(opened: Opened) -> None:
    """What is not in the catalog cannot come back, and does not stand for an item that is."""
    with opened.retriever() as retriever:
        engine = retriever.engine
        features = retriever.routing.active.fetcher.fetch(USER, seen=True)
        assert isinstance(features.seen, np.ndarray)
        assert {str(item) for item in features.seen.tolist()} == opened.seen
        more = np.sort(np.append(features.seen, [-5, 10**12]))
        catalog = engine.catalog.snapshot
        rows = type(features)(items=features.items, seen=more).seen_rows(features.known(catalog), catalog)
        assert set(catalog.texts(rows.tolist())) == opened.seen
    assert retriever.routing.active.fetcher.fetch(USER).seen is None


def test_a_store_without_seen_sets_answers_from_the_history_and_says_so_once(
    opened: Opened, logs: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an earlier version loaded it; a materialisation helps, and the server notices."""
    from rf_platform.features.apply import apply_definitions
    from rf_platform.features.materialize import materialize
    from rf_serving.user_features import online_rows

    assert check_seen_sets(opened.settings).status is Status.OK
    with closing(sqlite3.connect(opened.database)) as db, db:
        db.execute("DROP TABLE movielens_rf_seen")
    found = check_seen_sets(opened.settings)
    assert found.status is Status.WARN
    assert "rf features materialize" in found.remedy
    logs.entries.clear()
    with opened.retriever() as retriever:
        for _ in range(3):
            assert set(ask(retriever)) == opened.every - {str(item) for item in opened.last}
        warned = [entry for entry in logs.entries if entry["event"] == "no seen set"]
        assert [(entry["user"], entry["log_level"]) for entry in warned] == [(USER, "warning")]
        assert "rf features materialize" in warned[0]["remedy"]
        apply_definitions(opened.settings)
        materialize(opened.settings)
        assert check_seen_sets(opened.settings).status is Status.OK
        monkeypatch.setattr(online_rows, "monotonic", lambda: 1e12)
        assert set(ask(retriever)) == opened.every - opened.seen


def test_a_store_that_fails_is_not_one_without_seen_sets(opened: Opened) -> None:
    with opened.retriever() as retriever:
        ask(retriever)
        opened.database.write_bytes(b"not a database" * 4096)
        answer = asyncio.run(retriever.retrieve(Query(subject=USER, k=5, exclude_seen=True)))
        assert answer.degraded
