"""Every command at its edges. A command without an entry in ``rf_edges`` fails the first test."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rf_edges.edge import Edge, commands
from rf_edges.faults import FAULTS
from rf_edges.platform_commands import EDGES
from rf_platform.doctor.workspace import check_leftovers
from rf_platform.settings import Settings

World = Any
PACKAGES = ("rf_platform",)
"""Packages whose commands are declared, all of them."""
QUICK = pytest.mark.parametrize("edge", [edge for edge in EDGES if not edge.slow], ids=lambda edge: edge.name)
EVERY = pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge.name)


def test_every_command_is_declared() -> None:
    declared = {edge.name for edge in EDGES}
    assert set(commands(PACKAGES)) - declared == set()
    assert declared - set(commands((*PACKAGES, "rf_training"))) == set()


@QUICK
def test_it_succeeds_in_the_world_of_these_tests(edge: Edge, world: World) -> None:
    arguments = world.prepared(edge)
    before = world.files()
    ended = world.run(arguments).check()
    assert ended.code == 0, ended.err
    assert edge.strays(before, world.files()) == []


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("edge", [edge for edge in EDGES if edge.reads], ids=lambda edge: edge.name)
def test_spoilt_files(edge: Edge, fault: str, world: World) -> None:
    """One sentence that names the file, and a code that says failure; what the command makes is not there by halves."""
    for name in (name for name in edge.reads if Path(name).suffix in FAULTS[fault].kinds):
        arguments = world.prepared(edge)
        FAULTS[fault].spoil(world.home / name)
        before = world.files()
        ended = world.run(arguments).check()
        assert edge.strays(before, world.files()) == [], name
        if ended.code == 0 or edge.fails:
            assert edge.fails or (name, fault) in edge.passes, f"{name} is not noticed"
            continue
        assert ended.code in (1, 2), (name, ended.err)
        path = world.home / name
        assert path.stem in ended.sentence or str(path.parent) in ended.sentence, (name, ended.sentence)
        assert "; " in ended.sentence or ": " in ended.sentence, ended.sentence


@pytest.mark.usefixtures("mounts")
@QUICK
def test_a_full_disk(edge: Edge, world: World) -> None:
    arguments = world.prepared(edge)
    before = world.files()
    ended = world.run(arguments, "full").check()
    assert edge.strays(before, ended.files) == []
    if ended.code != 0 and not edge.fails:
        assert "no space left on the disk of " in ended.sentence, ended.err
    assert ended.code != 0 or not edge.makes


@pytest.mark.usefixtures("mounts")
@EVERY
def test_a_read_only_disk(edge: Edge, world: World) -> None:
    arguments = world.prepared(edge)
    before = world.files()
    ended = world.run(arguments, "read-only").check(finds=edge.fails)
    assert world.files() == before
    if ended.code != 0 and not edge.fails:
        assert "read-only file system" in ended.sentence, ended.err
    assert ended.code != 0 or not edge.makes


@EVERY
def test_interrupts_at_several_moments(edge: Edge, world: World) -> None:
    """130 or 143 and one line, nothing half-made; the command then works as if nothing had been."""
    moments = [(0.3, signal.SIGINT)]
    if not edge.slow:
        arguments, begin = world.prepared(edge), time.monotonic()
        world.run(arguments)
        whole = time.monotonic() - begin
        moments = [(whole * part, n) for part, n in ((0.2, signal.SIGINT), (0.5, signal.SIGTERM), (0.8, signal.SIGINT))]
    codes = []
    for after, number in moments:
        arguments = world.prepared(edge)
        before = world.files()
        running = world.start(arguments)
        time.sleep(after)
        running.signal(number)
        ended = running.ended()
        assert "Traceback" not in ended.err, ended.err
        assert edge.strays(before, world.files()) == []
        assert ended.code in (0, 128 + number), (ended.code, ended.err)
        if ended.code:
            said = ended.err.strip().splitlines()
            assert said[-1] == ("interrupted" if number == signal.SIGINT else "terminated")
        codes.append(ended.code)
    assert any(codes), "it always ended before the interrupt"
    if edge.writes and not edge.slow:
        assert world.run(edge.command_line(world.home)).check().code == 0 or edge.name == "data init-repo"


@EVERY
def test_a_second_copy(edge: Edge, world: World) -> None:
    """Both end well, or the second is refused with a sentence; afterwards there is one whole result."""
    arguments = world.prepared(edge)
    before = world.files()
    both = [world.start(arguments) for _ in range(2)]
    ended = [running.ended().check() for running in both]
    assert 0 in {each.code for each in ended}, [each.err for each in ended]
    assert edge.strays(before, world.files()) == []
    if edge.writes and not edge.slow:  # what it wrote can be read
        for name in ("data show", "features show", "dataset show"):
            assert world.run(name.split()).check().code == 0


@pytest.mark.parametrize(
    ("command", "mark"),
    [("data import", ".importing-*"), ("data synth", ".importing-*"), ("dataset build", "datasets/.building-*")],
)
def test_what_a_killed_command_leaves(command: str, mark: str, world: World) -> None:
    """Doctor tells of it, and the next run removes it; that of a command at work is left alone."""
    edge = next(e for e in EDGES if e.name == command)
    arguments = world.prepared(edge)
    left: Callable[[], list[Any]] = lambda: list(world.home.glob(mark))  # noqa: E731
    running = world.start(arguments)
    assert running.wait_for(left), "it left before it was killed"
    running.signal(signal.SIGSTOP)
    settings = Settings(home=world.home)
    assert check_leftovers(settings).status == "ok"
    running.signal(signal.SIGKILL)
    running.ended()
    assert len(left()) == 1
    found = check_leftovers(settings)
    assert (found.status, str(left()[0]) in found.detail) == ("warn", True)
    assert world.run(edge.command_line(world.home)).check().code == 0
    assert left() == []
    assert check_leftovers(settings).status == "ok"
