"""What a launcher does about a process that ends in failure while the others know nothing of it."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from rf_platform.interrupts import listening
from rf_training.distributed import launcher

STAYS, FAILS, ENDS = "import time; time.sleep(60)", "raise SystemExit(3)", "pass"


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    found: list[subprocess.Popen[bytes]] = []
    yield found
    for process in found:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def start(*programs: str) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen([sys.executable, "-c", each], stdin=subprocess.PIPE) for each in programs]


@pytest.mark.parametrize("programs", [(STAYS, FAILS), (FAILS, STAYS)])
def test_a_failure_is_noticed_whichever_process_it_is(
    started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, programs: tuple[str, ...]
) -> None:
    """Before they have met, the others wait for one that is gone, and would for minutes."""
    monkeypatch.setattr(launcher, "GRACE", 0.2)
    started += start(*programs)
    begun = time.monotonic()
    assert launcher._wait(started) == programs.index(FAILS)
    assert time.monotonic() - begun < 30


def test_all_that_end_well_are_waited_for(started: list[subprocess.Popen[bytes]]) -> None:
    started += start(ENDS, ENDS)
    assert launcher._wait(started) is None
    assert [process.returncode for process in started] == [0, 0]


def test_a_second_interrupt_leaves_no_process_behind(
    started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    monkeypatch.setattr(launcher, "GRACE", 1.0)
    popen = subprocess.Popen

    def begin(*_: object, **__: object) -> subprocess.Popen[bytes]:
        process = popen([sys.executable, "-c", deaf], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        started.append(process)
        return process

    def interrupted(_: object) -> None:
        threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,)).start()
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("rf_training.distributed.launcher.subprocess.Popen", begin)
    monkeypatch.setattr(launcher, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt), listening():
        launcher.launch([], 2)
    assert [process.poll() for process in started] == [-signal.SIGKILL] * 2
