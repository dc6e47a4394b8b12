"""What happens once in a while: logs that were restored, stores of others, tables that are away, loads that fail."""

import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rf_platform.data.event_log import EventLog, StoreFault
from rf_platform.features.materialize import materialize


def test_an_sqlite_store_that_is_restored_in_place(small: Any) -> None:
    small.backups.in_place = True
    with small.serving() as server:
        server.record(small.events(20, small.users))
        server.settle()
        small.backups.take()
        server.record(small.events(10, small.users))
        server.settle()
        whole = small.rows()
        small.backups.restore()
        server.wait_for(StoreFault.BEHIND)
        server.settle()
        assert small.rows() == whole


def test_without_tables_it_waits_and_says_what_to_do(small: Any, logs: Any) -> None:
    """Nothing is put on top of what is not there, and a materialisation by hand is enough."""
    tables = small.shop.settings.workspace.tables
    away = tables.with_name("away")
    with small.serving() as server:
        server.record(small.events(20, small.users))
        server.settle()
        whole = small.rows()
    small.backups.flush()
    tables.rename(away)
    said = len(logs.entries)
    with small.serving() as server:
        server.wait_for(StoreFault.UNLOADED)
        server.record(small.events(3, [1]))
        time.sleep(1.0)
        with closing(small.log) as log:
            assert (log.state().applied, log.state().fault) == (20, StoreFault.UNLOADED)
        (told,) = [e for e in logs.entries[said:] if e["event"] == "online store went back"]
        assert "rf features materialize" in told["answer"]
        waited = server.metric("rf_events_behind_seconds")
        assert waited > 0.5
        time.sleep(0.5)
        assert server.metric("rf_events_behind_seconds") > waited + 0.2
        assert all(e["event"] != "events are applied again" for e in logs.entries[said:])
        away.rename(tables)
        materialize(small.shop.settings)
        server.settle()
        server.wait_for(StoreFault.NONE)
        time.sleep(0.5)
        assert server.metric("rf_events_behind_seconds") == 0
        assert [e["event"] for e in logs.entries[said:]].count("events are applied again") == 1
        found = small.rows()
    assert {key: row for key, row in found.items() if key[1] != 1} == {
        key: row for key, row in whole.items() if key[1] != 1
    }
    assert small.shop.online([1])[1]["item_ids"][-3:] == [100 + n % 30 for n in (21, 22, 23)]


def test_a_store_that_fails_and_returns_empty_has_not_recovered(small: Any, logs: Any) -> None:
    """Events wait on, for another reason than before."""
    tables = small.shop.settings.workspace.tables
    tables.rename(tables.with_name("away"))
    said = len(logs.entries)
    with small.serving() as server:
        server.record(small.events(5, small.users))
        server.settle()
        with closing(sqlite3.connect(small.backups.file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            server.record(small.events(2, small.users))
            end = time.monotonic() + 30
            while not (waited := server.metric("rf_events_behind_seconds")):
                assert time.monotonic() < end
                time.sleep(0.05)
            small.backups.flush()
        server.wait_for(StoreFault.UNLOADED)
        time.sleep(0.5)
        assert server.metric("rf_events_behind_seconds") > waited
        told = [e["event"] for e in logs.entries[said:]]
        assert told.count("events wait for the online store") == 1
        assert "events are applied again" not in told


def test_a_load_that_fails_is_said_and_tried_again_later(small: Any, logs: Any) -> None:
    said = len(logs.entries)
    users = small.shop.settings.workspace.tables / "users.parquet"
    with small.serving() as server:
        server.record(small.events(5, small.users))
        server.settle()
        kept = users.read_bytes()
        users.write_bytes(b"no table")
        small.backups.flush()
        end = time.monotonic() + 300
        while not (failed := [e for e in logs.entries[said:] if e["event"] == "online store cannot be loaded again"]):
            assert time.monotonic() < end
            time.sleep(0.1)
        assert "users.parquet" in failed[0]["error"]
        assert "rf features materialize" in failed[0]["remedy"]
        users.write_bytes(kept)
        materialize(small.shop.settings)
        server.settle()
        assert len(failed) == 1


def test_a_log_that_was_restored_is_not_followed(small: Any, logs: Any) -> None:
    """Not at once, and not when its new events have numbers that the store has of others."""
    file = small.shop.settings.workspace.events / "log.db"
    copy = file.with_suffix(".backup")
    with small.serving() as server:
        server.record(small.events(10, small.users))
        server.settle()
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    with small.serving() as server:
        server.record(small.events(5, small.users))
        server.settle()
    before = small.rows()
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    copy.replace(file)
    said = len(logs.entries)
    with small.serving() as server:
        server.wait_for(StoreFault.FOREIGN)
        server.record(small.events(8, small.users))
        time.sleep(1.5)
        assert small.rows() == before
        with closing(small.log) as log:
            assert (log.state().applied, log.head()) == (10, 18)
        assert server.metric("rf_store_fault") == 3
        (told,) = [e for e in logs.entries[said:] if e["event"] == "online store went back"]
        assert "up to number 15" in told["detail"]
    with small.serving() as server:  # the numbers fit now
        server.wait_for(StoreFault.FOREIGN)
        assert small.rows() == before
        (load,) = [loaded for loaded in materialize(small.shop.settings) if loaded.view == "rf_seen"]
        assert any("another one" in text for text in load.warnings)
        server.settle()
        server.wait_for(StoreFault.NONE)
    found = small.rows()
    materialize(small.shop.settings)
    assert small.rows() == found != before


@pytest.mark.redis
def test_the_store_of_another_workspace_is_not_written_to(on_redis: Any, tmp_path: Path) -> None:
    """Two workspaces of one project name with one Redis between them."""
    from rf_platform.features.apply import apply_definitions
    from rf_platform.features.store import open_store

    first, mine = on_redis, on_redis.shop.settings
    theirs = mine.model_copy(update={"home": tmp_path / "other"})
    shutil.copytree(mine.workspace.root, theirs.workspace.root, ignore=shutil.ignore_patterns("events", "feast"))
    apply_definitions(theirs)
    second = first.other(type(first.shop)(theirs, open_store(theirs)))
    with first.serving() as server:
        server.record(first.events(10, first.users))
        server.settle()
    before = first.rows()
    with second.serving() as server:
        server.record(second.events(4, first.users))
        server.wait_for(StoreFault.FOREIGN)
        time.sleep(1.0)
        assert first.rows() == before
        (load,) = [loaded for loaded in materialize(theirs) if loaded.view == "rf_seen"]
        assert any("another workspace" in text for text in load.warnings)
        server.settle()
        taken = second.rows()
        assert taken != before
    with first.serving() as server:
        server.wait_for(StoreFault.FOREIGN)
        assert second.rows() == taken


def test_all_processes_know_and_one_repairs(small: Any) -> None:
    with small.serving() as one, small.serving() as two:
        one.record(small.events(20, small.users))
        one.settle()
        whole = small.rows()
        small.backups.flush()
        for server in (one, two):
            server.wait_for(StoreFault.UNLOADED)
        one.settle()
        for server in (one, two):
            server.wait_for(StoreFault.NONE)
        assert small.rows() == whole
        assert sum(s.metric("rf_store_resets_total", fault="unloaded") for s in (one, two)) == 1


@pytest.mark.parametrize("lost", ["history", "seen", "both"])
def test_rows_of_one_user_that_are_lost_are_made_anew_with_the_next_event(small: Any, lost: str) -> None:
    """Marks say nothing of them; but no history of eight becomes one of one."""
    with small.serving() as server:
        server.record(small.events(60, small.users))
        server.settle()
        with closing(sqlite3.connect(small.backups.file)) as db:
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                if table.endswith(
                    {"history": ("interaction_context",), "seen": ("rf_seen",)}.get(lost, ("_context", "_seen"))
                ):
                    db.execute(f'DELETE FROM "{table}"')
            db.commit()
        server.record(small.events(5, small.users))
        server.settle()
        found = small.rows()
    materialize(small.shop.settings)
    assert small.rows() == found
    assert len(found) == 3 * len(small.users) - 2


def test_a_store_of_an_earlier_version_gets_marks_and_is_watched_from_then_on(small: Any) -> None:
    from rf_platform.features.store_marks import StoreMarks

    with small.serving() as server:
        server.record(small.events(10, small.users))
        server.settle()
        whole = small.rows()
    store = small.shop.store
    StoreMarks(store).drop(store._get_provider().online_store)
    store._get_provider().online_store._conn = None
    with sqlite3.connect(small.shop.settings.workspace.events / "log.db") as log:
        log.execute("DELETE FROM rf_event_state WHERE name NOT IN ('format', 'applied', 'replay_until', 'reset')")
    log.close()
    with small.serving() as server:
        server.settle()
        assert small.rows() == whole
        assert server.metric("rf_store_resets_total", fault="unloaded") == 0
        small.backups.take()
        server.record(small.events(6, small.users))
        server.settle()
        whole = small.rows()
        small.backups.restore()
        server.wait_for(StoreFault.BEHIND)
        server.settle()
        assert small.rows() == whole


def test_a_materialisation_that_was_killed_before_it_told_the_log(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with small.serving() as server:
        server.record(small.events(10, small.users))
        server.settle()
    with monkeypatch.context() as patch:
        patch.setattr(EventLog, "materialized", lambda *_: None)
        materialize(small.shop.settings)
    with closing(small.log) as log:
        assert small.marks().load.epoch == log.state().pending != log.state().epoch
    with small.serving() as server:
        server.record(small.events(5, small.users))
        server.settle()
        assert server.faults[-1] is StoreFault.NONE
        assert StoreFault.FOREIGN not in server.faults
        found = small.rows()
    materialize(small.shop.settings)
    assert small.rows() == found


def load_and_die(settings: Any, pipe: Any) -> None:
    """Materialise, and be killed when all rows are loaded from what was there when it began."""
    from rf_platform.features import materialize as module

    load: Any = module._load

    def loaded(*given: Any) -> Any:
        pipe.send("sealed")
        pipe.recv()
        load(*given)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(module, "_load", loaded)  # noqa: B010 (types)
    module.materialize(settings)


def test_a_materialisation_that_was_killed_while_events_came_in(small: Any) -> None:
    """It overwrote histories with what it had read before; nobody has to run it once more."""
    context = multiprocessing.get_context("forkserver")
    with small.serving() as server:
        server.record(small.events(20, small.users))
        server.settle()
        pipe, theirs = context.Pipe()
        process = context.Process(target=load_and_die, args=(small.shop.settings, theirs), daemon=True)
        process.start()
        assert pipe.poll(120)
        server.record(small.events(5, small.users))
        server.settle()
        whole = small.rows()
        pipe.send("go on")
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        end = time.monotonic() + 300
        with closing(small.log) as log:
            while log.state().loading >= 0:
                assert time.monotonic() < end
                time.sleep(0.05)
        server.settle()
        assert small.rows() == whole
        assert server.metric("rf_store_resets_total", fault="unloaded") == 0


def test_some_views_do_not_make_a_store_whole(small: Any) -> None:
    with small.serving(apply=False):
        pass
    small.backups.flush()
    loaded = materialize(small.shop.settings, ["user_profile"])
    assert any("load all views" in text for text in loaded[-1].warnings)
    assert small.marks().load is None
    materialize(small.shop.settings)
    before = small.marks().load
    assert materialize(small.shop.settings, ["user_profile"])[-1].warnings == []
    after = small.marks().load
    assert after.epoch > before.epoch
    assert after.sealed == before.sealed


def test_what_is_said_of_it(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`rf events show` and `rf doctor`: whole, behind, emptied, and of another log."""
    from typer.testing import CliRunner

    from rf_platform.cli.app import app
    from rf_platform.doctor.check import Status
    from rf_platform.doctor.stores import check_store_position

    settings = small.shop.settings
    monkeypatch.setenv("RF_HOME", str(settings.home))
    monkeypatch.setenv("RF_FEATURE_REPO", str(settings.feature_repo))

    def said() -> tuple[str, dict[str, Any], Status]:
        text = CliRunner().invoke(app, ["events", "show"])
        assert text.exit_code == 0, text.output
        told = json.loads(CliRunner().invoke(app, ["events", "show", "--json"]).stdout)
        return text.output, told["store"], check_store_position(settings).status

    with small.serving() as server:
        server.record(small.events(10, small.users))
        server.settle()
        small.backups.take()
        server.record(small.events(7, small.users))
        server.settle()
    text, store, status = said()
    assert (store["standing"], store["position"], status) == ("current", 17, Status.OK)
    assert "up to number 17, 0 behind" in text
    small.backups.restore()
    text, store, status = said()
    assert (store["standing"], store["position"], status) == ("behind", 10, Status.WARN)
    assert "up to number 10, 7 behind" in text
    small.backups.flush()
    text, store, status = said()
    assert (store["standing"], status) == ("unloaded", Status.WARN)
    assert not small.backups.file.exists()
    assert "no mark" in text
    small.backups.restore()
    (settings.workspace.events / "log.db").unlink()
    text, store, status = said()
    assert (store["standing"], status) == ("foreign", Status.FAIL)
    assert "another workspace" in text


def test_a_load_that_ends_before_it_began_is_noted(small: Any) -> None:
    """Whatever goes wrong: events that nothing needs any more do not stay in SQL for ever."""
    file = small.shop.interactions
    kept = file.read_bytes()
    file.write_bytes(b"no table")
    with pytest.raises(Exception, match=r"interactions\.parquet"):
        materialize(small.shop.settings)
    with closing(small.log) as log:
        assert log.state().loading == -1
    file.write_bytes(kept)
    materialize(small.shop.settings)
    with closing(small.log) as log:
        assert log.state().epoch == small.marks().load.epoch


def test_who_only_asks_makes_no_log_and_upgrades_none(small: Any) -> None:
    from rf_platform.features.store_marks import Standing, standing_of

    file = small.shop.settings.workspace.events / "log.db"

    def asked() -> Standing:
        return standing_of(small.shop.settings, small.shop.store).standing

    with closing(sqlite3.connect(file)) as log:
        log.execute("DELETE FROM rf_event_state WHERE name IN ('trimmed', 'whole_at')")
        log.commit()
        assert asked() is Standing.CURRENT
        assert not log.execute("SELECT * FROM rf_event_state WHERE name IN ('trimmed', 'whole_at')").fetchall()
    for each in file.parent.glob("log.db*"):
        each.unlink()
    assert asked() is Standing.FOREIGN
    assert not file.exists()


@pytest.mark.parametrize("reader", ["applier", "answers"])
def test_a_file_that_is_replaced_while_it_is_opened(small: Any, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    from rf_serving.events import online_history
    from rf_serving.user_features import online_rows

    small.backups.take()
    with closing(sqlite3.connect(small.backups.copy)) as emptied:
        for (table,) in emptied.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            emptied.execute(f'DELETE FROM "{table}"')
        emptied.commit()
    module: Any = {"applier": online_history, "answers": online_rows}[reader]
    opened: Any = module.open_online
    times = 0

    def open_online(*given: Any, **more: Any) -> Any:
        nonlocal times
        times += 1
        online = opened(*given, **more)
        if times == 1:
            small.backups.restore()
        return online

    monkeypatch.setattr(module, "open_online", open_online)
    if reader == "applier":
        history = small.shop.history()
        history.marks()
        assert history.marks().load is None
        history.forget()
    else:
        rows = online_rows.OnlineRows(small.shop.store, [("interaction_context", "item_ids")])
        rows.read([1])
        assert rows.read([1]) == [{}]
        rows.close()
