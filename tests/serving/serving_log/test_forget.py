"""Erasure of a user from everything that a workspace keeps."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.data.event_log import Event, EventLog, EventParts, seal
from rf_platform.features.apply import apply_definitions
from rf_platform.features.expiry import now_us
from rf_platform.features.read import read_definitions
from rf_platform.features.store import open_store
from rf_platform.forget import Forgotten, leave_out_forgotten
from rf_platform.forget.forget import forget
from rf_platform.serving_log import ServingParts, record_schema
from rf_platform.settings import Settings

USER, OTHER = 17, 18


@pytest.fixture
def full(settings: Settings, home_copy: Path) -> Settings:
    """A workspace with events in files and in SQL, and answers, of two users."""
    own = settings.model_copy(update={"home": home_copy})
    apply_definitions(own)
    log = EventLog.open(own)

    def event(number: int, user: int) -> Event:
        return Event(event_id=f"e{number}", user_id=str(user), item_id="5", timestamp_us=now_us() + number)

    log.append([[event(1, OTHER), event(2, USER)]])
    seal(own)
    log.append([[event(3, OTHER), event(4, USER)]])
    log.close()
    spec = read_definitions(open_store(own), own.feature_service).spec
    rows = [
        {"request_id": f"r{user}", "user_id": str(user), "time": datetime.now(UTC), "spec_hash": spec.hash}
        for user in (USER, OTHER)
    ]
    ServingParts(own.workspace.serving_log).add(pa.Table.from_pylist(rows, record_schema(spec)))
    return own


def users_of(path: Path) -> set[int]:
    return set(pq.read_table(path)["user_id"].to_pylist())


def test_nothing_of_a_user_is_left(full: Settings) -> None:
    from rf_serving.user_features.online_rows import OnlineRows

    tables = full.workspace.tables
    before = users_of(tables / "interactions.parquet")
    erasure = forget(full, str(USER))
    assert (erasure.served, erasure.recorded, erasure.sealed) == (
        1,
        2,
        1,
    )  # what is sealed stays in SQL until it is applied
    assert set(erasure.tables) >= {"interactions.parquet", "users.parquet"}
    assert erasure.online == {
        "interaction_context": 1,
        "user_profile": 1,
        "rf_seen": 1,
    }
    assert users_of(tables / "interactions.parquet") == before - {USER}
    (part,) = ServingParts(full.workspace.serving_log).parts()
    assert pq.read_table(part.path)["user_id"].to_pylist() == [str(OTHER)]
    sealed = seal(full)
    with sealed.reading() as files:
        assert {u for file in files for u in pq.read_table(file)["__user"].to_pylist()} == {str(OTHER)}
    rows = OnlineRows(open_store(full), [("user_profile", "occupation")])
    mine, others = rows.read([USER, OTHER])
    assert not mine
    assert others
    assert str(USER).encode() not in (full.workspace.root / "forgotten.json").read_bytes().split(b'"')
    again = forget(full, str(USER))
    assert again.total == 0


def test_numbers_of_events_go_on_after_the_newest_is_gone(full: Settings) -> None:
    forget(full, str(USER))
    log = EventLog.open(full)
    log.append([[Event(event_id="new", user_id=str(OTHER), item_id="5", timestamp_us=now_us())]])
    (newest,) = [e for e in log.read(0, 100) if e.event_id == "new"]
    log.close()
    assert newest.sequence == 5
    parts: EventParts = seal(full)
    assert parts.sealed == 5


def test_an_interrupted_erasure_is_completed_by_the_next(full: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: EventLog, user_id: str) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EventLog, "forget", killed)
        with pytest.raises(KeyboardInterrupt):
            forget(full, str(USER))
    erasure = forget(full, str(USER))
    assert (erasure.recorded, erasure.sealed) == (2, 1)
    assert erasure.served == 1


def test_an_import_leaves_out_what_is_older_than_the_erasure(tmp_path: Path, write_tables: Callable[..., None]) -> None:
    settings = Settings(home=tmp_path)
    tables = settings.workspace.tables
    write_tables(tables)
    forgotten = Forgotten(settings.workspace)
    forgotten.add("3")
    leave_out_forgotten(settings.workspace, tables)
    assert 3 not in users_of(tables / "interactions.parquet") | users_of(tables / "users.parquet")
    assert 4 in users_of(tables / "interactions.parquet")


def test_a_user_who_comes_back_counts(tmp_path: Path) -> None:
    forgotten = Forgotten(Settings(home=tmp_path).workspace)
    at_us = forgotten.add("3")
    times = pa.array([at_us - 1, at_us + 1, at_us - 1], pa.timestamp("us", tz="UTC"))
    table = pa.table({"user_id": ["3", "3", "4"], "time": times})
    assert forgotten.without(table, "user_id", "time")["user_id"].to_pylist() == ["3", "4"]
