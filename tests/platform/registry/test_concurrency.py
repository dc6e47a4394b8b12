"""Several processes at once: what a deployment script beside a training job and two servers does."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rf_platform.registry import Action, Registry
from rf_platform.registry.lookup import served_stack

_START = """
import sys, time
from pathlib import Path
from rf_platform.registry import Registry
url, go = sys.argv[1], Path(sys.argv[2])
print("ready", flush=True)
while not go.exists():
    time.sleep(0.001)
"""
_OPEN = _START + "Registry.open(url, root=go.parent).runs()"
_PROMOTE = (
    _START
    + """
from threading import Thread
registry = Registry.open(url, root=go.parent)
threads = [Thread(target=registry.promote, args=(f"b{n}", sys.argv[3])) for n in range(10)]
for t in threads: t.start()
for t in threads: t.join()
"""
)


@contextmanager
def processes(program: str, url: str, go: Path, count: int) -> Iterator[None]:
    """Start processes, let them go at once when all have imported what they need, and expect all to succeed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, url, str(go), f"process {n}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for n in range(count)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield
        go.touch()
        for process in started:
            _, errors = process.communicate(timeout=60)
            assert (process.returncode, errors) == (0, "")
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_processes_that_open_a_fresh_registry_at_once_all_get_it(registry_url: str, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with processes(_OPEN, registry_url, tmp_path / "go", 3):
        pass
    assert Registry.open(registry_url, root=tmp_path).runs() == []


def test_twenty_promotions_at_once_leave_a_consistent_history(
    with_run: Registry, registry_url: str, tmp_path: Path
) -> None:
    for n in range(10):
        with_run.record_bundle(name=f"b{n}", run="demo", path="/x", manifest_sha256=str(n), spec_hash="s", metrics={})
    with processes(_PROMOTE, registry_url, tmp_path / "go", 2):
        pass
    history = with_run.deployments()
    assert 10 <= len(history) <= 20  # a bundle that is served already is not promoted again
    assert {d.note for d in history} <= {"process 0", "process 1"}
    assert {d.bundle for d in history} == {f"b{n}" for n in range(10)}
    assert all(a.bundle != b.bundle for a, b in itertools.pairwise(history))
    assert all(a.created_at <= b.created_at for a, b in itertools.pairwise(history))
    stack = served_stack((d.action, d.bundle) for d in history)
    assert stack == [d.bundle for d in history]
    active = with_run.active_bundle()
    assert active is not None
    assert active.name == history[-1].bundle
    went_back = [with_run.rollback().bundle for _ in range(len(history) - 1)]
    assert went_back == stack[-2::-1]
    assert with_run.deployments()[-1].action is Action.ROLLBACK
