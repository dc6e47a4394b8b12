"""What a launcher does about a process that ends in failure while the others know nothing of it."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

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
