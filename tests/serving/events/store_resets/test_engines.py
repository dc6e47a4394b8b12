"""A store that is restored or emptied, on each engine: what it lost is noticed, said, and put back, row by row."""

import signal
import time
from contextlib import closing
from typing import Any

import pyarrow.parquet as pq
import pytest

from rf_platform.data.event_log import StoreFault, seal
from rf_platform.features.materialize import materialize


def test_restored_while_it_is_served(world: Any, logs: Any) -> None:
    """Twice: by itself, and with events that come before anything else is noticed."""
    said = len(logs.entries)
    with world.serving() as server:
        server.record(world.events(40, world.users))
        server.settle()
        world.backups.take()
        server.record(world.events(25, world.users))
        server.settle()
        whole = world.rows()
        assert len(whole) == 3 * len(world.users) - 2  # the new users have no profile
        world.backups.restore()
        assert world.rows() != whole
        server.wait_for(StoreFault.BEHIND)
        server.settle()
        assert world.rows() == whole
        assert server.metric("rf_store_resets_total", fault="behind") == 1
        assert server.metric("rf_events_reapplied_total") == 25
        server.wait_for(StoreFault.NONE)
        assert server.metric("rf_store_fault") == 0
        assert server.metric("rf_events_position", of="store") == server.metric("rf_events_position", of="log") == 65

        world.backups.restore()
        server.record(world.events(3, [1, 501]))
        server.settle()
        assert server.metric("rf_store_resets_total", fault="behind") == 2
        found = world.rows()
    materialize(world.shop.settings)  # from scratch, of table and log
    assert world.rows() == found
    events = [entry["event"] for entry in logs.entries[said:]]
    assert events.count("online store went back") == 2
    assert events.count("online store is whole again") == 2


def test_restored_while_nothing_runs(world: Any) -> None:
    with world.serving() as server:
        server.record(world.events(30, world.users))
        server.settle()
        world.backups.take()
        server.record(world.events(20, world.users))
        server.settle()
        whole = world.rows()
    world.backups.restore()
    assert world.rows() != whole
    with world.serving() as server:
        server.settle()
        assert world.rows() == whole
        assert server.metric("rf_store_resets_total", fault="behind") == 1
        server.record(world.events(10, world.users))
        server.settle()
        found = world.rows()
    materialize(world.shop.settings)
    assert world.rows() == found


def test_emptied_while_it_is_served(world: Any, logs: Any) -> None:
    """It is loaded again by the server; meanwhile no event is put on top of nothing."""
    said = len(logs.entries)
    with world.serving() as server:
        server.record(world.events(40, world.users))
        server.settle()
        world.backups.flush()
        server.record(world.events(5, [1]))
        server.wait_for(StoreFault.UNLOADED)
        with closing(world.log) as log:
            assert log.state().applied == 40
        server.settle()
        server.wait_for(StoreFault.NONE)
        found = world.rows()
        history = world.shop.online([1])[1]
        assert len(history["item_ids"]) == 8
        assert server.metric("rf_store_resets_total", fault="unloaded") == 1
        server.record(world.events(2, [502]))
        server.settle()
        later = world.rows()
        end = time.monotonic() + 30
        while not any(entry["event"] == "online store was loaded again" for entry in logs.entries[said:]):
            assert time.monotonic() < end
            time.sleep(0.05)
    materialize(world.shop.settings)
    assert world.rows() == later
    assert {key: row for key, row in later.items() if key[1] != 502} == {
        key: row for key, row in found.items() if key[1] != 502
    }
    assert len(found) == 3 * len(world.users) - 2
    events = [entry["event"] for entry in logs.entries[said:]]
    assert events.count("online store went back") == 1


def test_restored_to_before_a_materialisation(world: Any) -> None:
    """The load itself is an old one: events since it do not make up for what the tables changed."""

    with world.serving() as server:
        server.record(world.events(20, world.users))
        server.settle()
        world.backups.take()
        table = pq.read_table(world.shop.interactions)
        pq.write_table(table.slice(0, table.num_rows - 3), world.shop.interactions)
        materialize(world.shop.settings)
        server.record(world.events(5, world.users))
        server.settle()
        whole = world.rows()
        world.backups.restore()
        server.wait_for(StoreFault.UNLOADED)
        server.settle()
        assert world.rows() == whole
        assert server.metric("rf_store_resets_total", fault="unloaded") == 1


def test_restored_to_a_state_whose_events_have_left_sql(world: Any) -> None:
    """They are read from the files of the log."""
    with world.serving() as server:
        server.record(world.events(10, world.users))
        server.settle()
        world.backups.take()
        server.record(world.events(15, world.users))
        server.settle()
        seal(world.shop.settings)
        server.record(world.events(3, world.users))
        server.settle()
        whole = world.rows()
        with closing(world.log) as log:
            assert (log.state().trimmed, log.read(0, 1)[0].sequence) == (25, 26)
        world.backups.restore()
        server.wait_for(StoreFault.BEHIND)
        server.settle()
        assert world.rows() == whole
        assert server.metric("rf_events_reapplied_total") == 18


@pytest.mark.parametrize("dies", ["rows", "mark"])
def test_kill_9_between_rows_and_mark_and_a_restore(world: Any, dies: str) -> None:
    """What was written and not marked counts once, and a copy of the store in that state is put right as well."""
    process = world.process(dies)
    process.record(world.events(20, world.users))
    world.settle()
    process.pipe.send("die")
    assert process.pipe.recv() == "ok"
    process.pipe.send([each.SerializeToString() for each in world.events(5, world.users)])
    process.process.join(60)
    assert process.process.exitcode == -signal.SIGKILL
    marks = world.marks()
    assert marks.position == (20 if dies == "rows" else 25)
    world.backups.take()
    with world.serving() as server:
        server.settle()
        server.record(world.events(12, world.users))
        server.settle()
        whole = world.rows()
        assert server.metric("rf_store_resets_total", fault="behind") == 0
        world.backups.restore()
        server.wait_for(StoreFault.BEHIND)
        server.settle()
        assert world.rows() == whole
    materialize(world.shop.settings)
    assert world.rows() == whole


def test_restored_under_two_processes_of_which_one_is_killed(world: Any) -> None:
    processes = [world.process(), world.process()]
    processes[0].record(world.events(10, world.users))
    world.settle()
    world.backups.take()
    for round_ in range(3):
        for n in range(4):
            processes[n % 2].record(world.events(6, world.users))
        if round_ == 1:
            processes[0].kill()
            processes[0] = world.process()
        world.backups.restore()
        processes[1].record(world.events(2, world.users))
        processes[0].record(world.events(2, world.users))
    world.settle()
    found = world.rows()
    for process in processes:
        process.close()
    materialize(world.shop.settings)
    assert world.rows() == found
