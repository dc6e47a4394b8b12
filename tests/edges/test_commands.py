"""Every command at its edges: damaged files, a full disk, a read-only one, interrupts, and a second copy of itself.

Each ends well or with one sentence, and nothing half-made is left. A command that nobody declared fails the first test.
"""

import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rf_edges import platform_commands, serving_commands, training_commands
from rf_edges.edge import Edge, commands
from rf_edges.faults import FAULTS
from rf_edges.process import Moment
from rf_edges.world import World
from rf_platform.doctor.workspace import check_leftovers
from rf_platform.registry import Registry, RunStatus
from rf_platform.settings import Settings

EDGES = (*platform_commands.EDGES, *training_commands.EDGES, *serving_commands.EDGES)
NAMED = {str(edge): edge for edge in EDGES}
READ_ONLY = "read-only|cannot be written|readonly|writable"
COMPLETE = "is complete|exists and is not empty"
"""What is said of a result that is there already; it was interrupted after it had its name."""
FULL = "no space left on the disk of|could not be written"


def of(edges: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("edge", list(edges), ids=str)


def check_whole(edge: Edge, world: World, before: Mapping[str, int]) -> None:
    """Only what the command writes has changed, nothing is half-made, and bundles are recorded, all of them."""
    assert edge.strays(before, world.files()) == []
    registry = Registry.open(f"sqlite:///{world.home}/registry.db", root=world.home)
    bundles = [bundle.path for bundle in registry.bundles()]
    assert {path.name for path in bundles} == {path.name for path in (world.home / "bundles").glob("[!.]*")}
    assert all((path / "manifest.json").is_file() for path in bundles)


def test_every_command_is_declared() -> None:
    assert {edge.name for edge in EDGES} == set(commands(("rf_platform", "rf_training", "rf_serving")))


@pytest.mark.parametrize(
    ("edge", "name", "fault"),
    [
        pytest.param(edge, name, fault, id=f"{edge}, {name}, {fault}")
        for edge in EDGES
        for name in edge.reads
        for fault in FAULTS
        if Path(name).suffix in FAULTS[fault].kinds
    ],
)
def test_spoilt_files(edge: Edge, name: str, fault: str, world: World) -> None:
    """One sentence that names the file, and a code that says failure; what the command makes is not there by halves."""
    arguments = world.prepared(edge)
    path = world.home / name
    FAULTS[fault].spoil(path)
    before = world.files()
    ended = world.run(arguments).check()
    assert "Errno" not in ended.err, ended.err
    assert edge.strays(before, world.files()) == []
    if ended.code == 0 or edge.fails:
        assert edge.fails or (name, fault) in edge.passes, "it is not noticed"
        return
    assert ended.code in (1, 2), ended.err
    bundle = re.match("bundles/([^/]+)/", name)
    assert any(text in ended.sentence for text in (path.stem, str(path.parent), bundle and f"'{bundle[1]}'") if text)
    assert re.search("[;:] |is (not there|no file)$", ended.sentence), ended.sentence


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    ("edge", "left"),
    [
        pytest.param(edge, left, id=f"{edge}, {left}")
        for edge in EDGES
        for left in (60_000, 0)
        if edge.alone
        and not edge.fails
        and (edge.needs_room or bool(left) == (bool(edge.writes) and edge not in platform_commands.EDGES))
    ],
)
def test_a_full_disk(edge: Edge, left: int, world: World) -> None:
    """It ends well or tells of the disk; with room again the command works."""
    again = edge.command_line(world.home, again=True)
    ended = world.run_on_disk(edge, left, [again, edge.command_line(world.home)] if edge.after else [again])
    ended.check(0, 1)
    assert edge.strays(ended.disk["before"], ended.disk["after"]) == []
    if ended.code:
        assert re.search(FULL, ended.sentence), ended.err
        assert 0 in [code for code, _ in ended.disk["then"]], ended.disk["then"]
    assert ended.code or left or not edge.needs_room


@pytest.mark.usefixtures("mounts")
@of(edge for edge in EDGES if edge.alone or edge.stops)
def test_a_read_only_disk(edge: Edge, world: World) -> None:
    ended = world.run_on_disk(edge).check(finds=edge.fails)
    assert ended.disk["after"] == ended.disk["before"]
    assert ended.code in (1, 2) or not edge.writes or edge.fails, "it wrote nothing"
    if ended.code and not edge.fails:
        assert re.search(READ_ONLY, ended.sentence), ended.err


@pytest.mark.parametrize(
    ("edge", "moment", "number"),
    [
        pytest.param(edge, moment, number, id=f"{edge}, {' '.join(moment)}, {number.name}")
        for edge in EDGES
        for moment in edge.moments
        for number in (signal.SIGINT, signal.SIGTERM)
        if number == signal.SIGINT or moment == edge.moments[-1]
    ],
)
def test_interrupts(edge: Edge, moment: Moment, number: signal.Signals, world: World) -> None:
    """130 or 143 and one line, nothing half-made; the command then works as if nothing had been."""
    arguments = world.prepared(edge)
    before = world.files()
    ended = world.run(arguments, at=moment, do=number)
    assert ended.reached, ended.err
    stopped = edge.stops and moment == edge.moments[-1]
    ended.check(0 if stopped else 128 + number)
    if not stopped:
        said = ended.err.strip().splitlines()[-1]
        assert said.startswith("interrupted" if number == signal.SIGINT else "terminated"), ended.err
    check_whole(edge, world, before)
    untouched = moment[0] == "import" and world.files() == before
    if (edge.alone or edge.after) and not untouched:
        again = world.run(edge.command_line(world.home, again=True))
        if edge.after and again.code == 2 and "is complete" not in again.sentence:
            again = world.run(arguments)  # it had not begun
        assert again.check().code == 0 or re.search(COMPLETE, again.sentence), again.err


@of(edge for edge in EDGES if edge.alone)
def test_a_second_copy(edge: Edge, world: World) -> None:
    """While one is held, another one ends well, waits, or is refused with a sentence; the one that was held ends well."""
    arguments = world.prepared(edge)
    before = world.files()
    first = world.start(arguments, at=edge.pause or edge.moments[-1])
    assert first.reached(), first.ended().err
    second = world.start(arguments)
    if edge.waits:
        assert second.waits()
        first.go_on()
    ended = second.ended()
    first.go_on()
    good = (0, 1) if edge.fails else (0,)
    held = first.ended().check(*(good if edge.overtaken is None else (2,)), finds=edge.fails)
    assert edge.overtaken is None or re.search(edge.overtaken, held.sentence), held.err
    ended.check(*(good if edge.refused is None else (1, 2)), finds=edge.fails)
    assert edge.refused is None or re.search(edge.refused, ended.sentence), ended.err
    check_whole(edge, world, before)
    runs = Registry.open(f"sqlite:///{world.home}/registry.db", root=world.home).runs()
    assert all(run.status is RunStatus.COMPLETED for run in runs if run.name != "begun")
    for name in (
        ("data show", "features show", "dataset show") if edge in platform_commands.EDGES and edge.writes else ()
    ):
        world.run(name.split()).check(0)  # what it wrote can be read


@pytest.mark.parametrize(
    ("command", "mark", "moment"),
    [
        ("data import", ".importing-*", None),
        ("data synth", ".importing-*", None),
        ("dataset build", "datasets/.building-*", None),
        ("index build", "bundles/.building-*", None),
        ("rerank train", "runs/done/rerankers/.training-*", None),
        ("train", "runs/.starting-*", ("os.rename", "runs/new")),
    ],
)
def test_what_a_killed_command_leaves(command: str, mark: str, moment: Moment | None, world: World) -> None:
    """Doctor tells of it, and the next run removes it; that of a command at work is left alone."""
    edge = NAMED[command]
    arguments = world.prepared(edge)
    settings = Settings(home=world.home)
    running = world.start(arguments, at=moment or edge.moments[-1])
    assert running.reached()
    left = list(world.home.glob(mark))
    assert check_leftovers(settings).status == "ok"
    running.signal(signal.SIGKILL)
    assert running.ended().code == -signal.SIGKILL
    found = check_leftovers(settings)
    assert (found.status, [str(path) in found.detail for path in left]) == ("warn", [True])
    world.run(arguments).check(0)
    assert list(world.home.glob(mark)) == []
    assert check_leftovers(settings).status == "ok"


@pytest.mark.parametrize(
    ("command", "moments"),
    [
        ("train", [("open", ".starting-"), ("open", "state.pt")]),
        ("index build", [("open", ".building-")]),
        ("batch", [("os.rename", "top.parquet")]),
    ],
)
def test_what_a_killed_process_leaves_is_no_hindrance(command: str, moments: list[Moment], world: World) -> None:
    """Half a start, half a checkpoint, half a bundle and half a file are removed by the next command that makes the same."""
    edge = NAMED[command]
    arguments = world.prepared(edge)
    before = world.files()
    for moment in moments:
        assert world.run(arguments, at=moment, do=signal.SIGKILL).code == -signal.SIGKILL
    world.run(edge.command_line(world.home, again=True)).check(0)
    check_whole(edge, world, before)
