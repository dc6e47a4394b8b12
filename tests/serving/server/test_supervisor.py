"""When several workers count as serving, with workers that do what they are told."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path
from threading import Thread
from rf_platform.errors import RfError
from rf_platform.settings import Settings
from rf_serving.server import supervisor
from rf_serving.server.options import ServeOptions
from rf_serving.server.process import FAILED, READY, _end_with_parent

def work(number, settings, options, reports):
    Thread(target=_end_with_parent, daemon=True).start()
    order = settings.home / str(number)
    (settings.home / f"begun-{number}").touch()
    while not order.exists():
        time.sleep(0.005)
    what = order.read_text()
    if what == "fail":
        reports.send((FAILED, f"no bundle for worker {number}", 1))
        os._exit(1)
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    reports.send((READY, {"address": "here", "load_seconds": float(number)}))
    while True:
        time.sleep(10)

if __name__ == "__main__":
    supervisor.run_worker = work
    try:
        code = supervisor.supervise(Settings(home=Path(sys.argv[1])), ServeOptions(port=0, workers=3))
    except RfError as error:
        print(json.dumps({"event": "error", "message": str(error)}))
        code = error.exit_code
    sys.exit(code)
"""


class Supervised:
    """A supervisor with three workers, each of which waits for its order."""

    def __init__(self, home: Path) -> None:
        self._home = home
        (home / "program.py").write_text(_PROGRAM)
        command = [sys.executable, str(home / "program.py"), str(home)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def order(self, worker: int, what: str) -> None:
        draft = self._home / f"draft-{worker}"
        draft.write_text(what)
        draft.rename(self._home / str(worker))

    def line(self) -> dict[str, Any]:
        """The next line of the log."""
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        assert text, "the log has ended"
        found: dict[str, Any] = json.loads(text)
        return found

    def begun(self, worker: int) -> bool:
        return (self._home / f"begun-{worker}").exists()


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    started = Supervised(tmp_path)
    yield started
    started.process.kill()
    started.process.wait()
    assert started.process.stdout is not None
    started.process.stdout.close()


def test_serving_is_said_when_all_workers_are(supervised: Supervised) -> None:
    for worker in (0, 2, 1):
        supervised.order(worker, "ready")  # the next one not before the last one's line is there
        line = supervised.line()
        assert (line["event"], line["worker"]) == ("worker ready", worker)
    line = supervised.line()
    assert (line["event"], line["workers"], line["load_seconds"]) == ("serving", 3, 2.0)
    supervised.process.send_signal(signal.SIGTERM)
    assert [supervised.line()["event"] for _ in range(2)] == ["draining", "stopped"]
    assert supervised.process.wait() == 0


@pytest.mark.parametrize("worker", [0, 1])
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("fail", "no bundle for worker {}"),
        (
            "die",
            "worker {} was ended by SIGKILL before all workers could serve; if nobody did that, memory ran out: .*",
        ),
    ],
)
def test_a_worker_that_cannot_start_ends_all(supervised: Supervised, worker: int, what: str, message: str) -> None:
    for number in range(worker):
        supervised.order(number, "ready")
        assert supervised.line()["event"] == "worker ready"
    supervised.order(worker, what)
    line = supervised.line()
    assert line["event"] == "error"
    assert re.fullmatch(message.format(worker), line["message"])
    assert supervised.process.wait() == 1
    if worker == 0:
        assert not supervised.begun(1)  # what is wrong with all of them is said once


def test_a_server_that_is_stopped_while_it_starts_has_finished_all_calls(
    supervised: Supervised, wait_until: Callable[..., None]
) -> None:
    supervised.order(0, "ready")
    assert supervised.line()["event"] == "worker ready"
    wait_until(lambda: supervised.begun(1) and supervised.begun(2), 60)
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.line()["event"] == "draining"
    line = supervised.line()
    assert (line["event"], line["all_calls_finished"]) == ("stopped", True)
    assert supervised.process.wait() == 0
