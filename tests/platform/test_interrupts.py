"""Interrupts that a library swallows are interrupts all the same, wherever errors of any class are told and work goes on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rf_platform.doctor import stores
from rf_platform.doctor.check import Check, run_checks
from rf_platform.failures import reading
from rf_platform.interrupts import Terminated, held, listening, raise_if_received, received
from rf_platform.settings import Settings


def swallow(*_: Any) -> Any:
    """Raise what DuckDB raises of an interrupted query."""
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt:
        raise RuntimeError("Query interrupted") from None


def of_doctor(settings: Settings, _: pytest.MonkeyPatch) -> None:
    list(run_checks([Check("one", swallow)], settings))


def of_position(settings: Settings, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("rf_platform.features.store.open_store", swallow)
    stores.check_store_position(settings)


def of_reading(_: Settings, __: pytest.MonkeyPatch) -> None:
    with reading("/a/b"):
        swallow()


@pytest.mark.parametrize("work", [of_doctor, of_position, of_reading])
def test_a_swallowed_interrupt_is_raised_again(
    work: Callable[[Settings, pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Terminated), listening():
        work(Settings(home=tmp_path), monkeypatch)
    raise_if_received()  # nothing is left of it
    assert received() is None


AT_EXIT = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
import typer
from rf_platform.cli import main

app = typer.Typer()
pool = ThreadPoolExecutor()

@app.command()
def work() -> None:
    pool.submit(time.sleep, 4)
    {end}

sys.argv = ["rf"]
try:
    main(app)
finally:
    print("ended", flush=True)
"""
"""A command that has ended, while a thread has not."""


@pytest.mark.parametrize("end", ["return", "raise ValueError('a bug')"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_threads_end_ends_the_process(number: int, end: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", AT_EXIT.format(end=end)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ended\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "KeyboardInterrupt" not in said


def test_steps_that_belong_together_are_not_cut() -> None:
    done = []

    def work() -> None:
        with listening(), held():
            signal.raise_signal(signal.SIGTERM)
            raise_if_received()
            done.append("whole")

    with pytest.raises(Terminated):
        work()
    assert done == ["whole"]
