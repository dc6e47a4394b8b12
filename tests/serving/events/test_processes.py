"""Several processes that record and follow one log, and are killed while they do."""

import asyncio
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pytest

from rf_platform.settings import Settings
from rf_protos.v1.feedback_pb2 import Event, EventStatus

SECOND = 1_000_000


def serve(settings: Settings, pipe: Connection, dies: bool) -> None:
    """What a server process does with events, without the network around it.

    One that ``dies`` is killed when a batch is in the online store and not noted yet.
    """
    from rf_platform.data.event_log import EventLog
    from rf_platform.features.store import open_store
    from rf_serving.events import EventIntake

    if dies:
        EventLog.advance = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    intake = EventIntake(settings, open_store(settings))
    pipe.send("ready")
    while (asked := pipe.recv()) is not None:
        events = [Event(event_id=i, user_id=u, item_id=t, timestamp_us=when) for i, u, t, when in asked]
        statuses = asyncio.run(intake.record(events, lambda item: True))
        pipe.send([status.outcome for status in statuses])
    intake.close()


class Worker:
    """A process that can be killed. It is forked from one that has Feast imported, which takes seconds."""

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rf_serving.events", "feast", "feast.infra.online_stores.sqlite"])

    def __init__(self, settings: Settings, *, dies: bool = False) -> None:
        self._pipe, theirs = self.context.Pipe()
        self.process = self.context.Process(target=serve, args=(settings, theirs, dies), daemon=True)
        self.process.start()
        theirs.close()
        assert self._pipe.poll(120)
        assert self._pipe.recv() == "ready"

    def send(self, events: list[tuple[str, str, str, int]]) -> None:
        self._pipe.send(events)

    def outcomes(self) -> list[int] | None:
        """None: the process was killed before it answered."""
        try:
            assert self._pipe.poll(60)
            answer: list[int] = self._pipe.recv()
            return answer
        except (EOFError, ConnectionResetError):
            return None

    def kill(self) -> None:
        assert self.process.pid
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()

    def close(self) -> None:
        self._pipe.send(None)
        self.process.join(30)
        assert self.process.exitcode == 0


@pytest.fixture(scope="module")
def workspace(open_shop: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return open_shop(tmp_path_factory.mktemp("processes"))


def wait_until_applied(shop: Any, seconds: float = 30.0) -> None:
    log = shop.log
    end = time.monotonic() + seconds
    while log.state().applied < log.head():
        assert time.monotonic() < end, (log.state(), log.head())
        time.sleep(0.01)
    log.close()


def test_an_event_recorded_by_one_process_is_applied_by_another_within_a_second(workspace: Any) -> None:
    workers = [Worker(workspace.settings), Worker(workspace.settings)]
    now = int(time.time()) * SECOND
    wait_until_applied(workspace)
    waits = []
    for n in range(20):
        workers[n % 2].send([(f"l{n}", "201", str(100 + n % 8), now + n)])
        assert workers[n % 2].outcomes() == [EventStatus.RECORDED]
        start = time.monotonic()
        wait_until_applied(workspace)
        waits.append(time.monotonic() - start)
    assert workspace.online([201])[201]["item_ids"] == [100 + n % 8 for n in range(12, 20)]
    assert np.median(waits) < 0.5, waits
    workers[0].send([("l0", "201", "100", now)])
    assert workers[0].outcomes() == [EventStatus.DUPLICATE]
    for worker in workers:
        worker.close()


def test_kill_9_at_any_moment_loses_and_doubles_nothing(workspace: Any) -> None:
    """Each acknowledged event is in the history exactly once, although its caller repeats what was not answered."""
    settings = workspace.settings
    rng = random.Random(3)
    workers = [Worker(settings), Worker(settings)]
    now = int(time.time()) * SECOND - 10_000 * SECOND
    number = 0
    for round_ in range(6):
        todo = []
        for _ in range(rng.randrange(1, 40)):
            user = str(rng.choice([1, 2, 3, 211, 212, 213]))
            when = now + number * SECOND // 3 - rng.choice([0, 0, 0, 500 * SECOND])
            todo.append((f"k{number}", user, str(100 + rng.randrange(30)), when))
            number += 1
        victim = round_ % 2
        workers[victim].send(todo)
        time.sleep(rng.random() * 0.05)
        workers[victim].kill()
        if workers[victim].outcomes() is None or rng.random() < 0.5:
            workers[1 - victim].send(todo)
            assert set(workers[1 - victim].outcomes() or []) <= {EventStatus.RECORDED, EventStatus.DUPLICATE}
        workers[victim] = Worker(settings)
    wait_until_applied(workspace)
    for worker in workers:
        worker.close()

    from rf_platform.features.materialize import materialize

    users = [1, 2, 3, 211, 212, 213]
    log = workspace.log
    assert sorted(e.event_id for e in log.read(0, 10_000) if e.event_id[0] == "k") == sorted(
        f"k{n}" for n in range(number)
    )
    before, seen = workspace.online(users), workspace.seen(users)
    materialize(settings)
    np.testing.assert_equal(before, workspace.online(users))
    assert seen == workspace.seen(users) == workspace.expected_seen(users)
    assert all(len(row["item_ids"]) == 8 for row in before.values())


def test_a_batch_that_was_written_and_not_noted_counts_once(workspace: Any) -> None:
    """The applier is killed between the two; the next one cannot know, and times in the history cannot tell."""
    wait_until_applied(workspace)
    now = int(time.time()) * SECOND
    worker = Worker(workspace.settings, dies=True)
    worker.send([(f"d{n}", "231", str(100 + n), now + n) for n in range(3)])
    worker.outcomes()
    worker.process.join(30)
    assert worker.process.exitcode == -signal.SIGKILL
    assert workspace.online([231])[231]["item_ids"] == [100, 101, 102]
    log = workspace.log
    assert log.head() - log.state().applied == 3
    other = Worker(workspace.settings)
    other.send([("d3", "231", "103", now + 3)])
    assert other.outcomes() == [EventStatus.RECORDED]
    wait_until_applied(workspace)
    assert workspace.online([231])[231]["item_ids"] == [100, 101, 102, 103]
    other.close()


def test_a_materialisation_beside_a_running_applier_loses_no_event(workspace: Any) -> None:
    """Events of new users: what was loaded lacks them, and rows of users that the tables lack are removed."""
    from threading import Event as Flag
    from threading import Thread

    from rf_platform.features.materialize import materialize

    worker = Worker(workspace.settings)
    now = int(time.time()) * SECOND
    users: list[int] = []
    begun, done = Flag(), Flag()

    def keep_recording() -> None:
        while not done.is_set() or len(users) < 30:
            user = 1000 + len(users)
            worker.send([(f"m{user}", str(user), "107", now)])
            assert worker.outcomes() == [EventStatus.RECORDED]
            users.append(user)
            if len(users) == 5:
                begun.set()
            time.sleep(0.01)

    thread = Thread(target=keep_recording)
    thread.start()
    try:
        assert begun.wait(60)
        materialize(workspace.settings)
    finally:
        done.set()
        thread.join()
    time.sleep(1.0)  # the applier looks for a materialisation twice a second
    wait_until_applied(workspace)
    stored = workspace.online(users)
    assert [user for user in users if stored[user]["item_ids"] != [107]] == []
    worker.close()
