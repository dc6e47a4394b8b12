"""Every command beside a second copy of itself, and after one that was killed: nothing half-made is left."""

import re
import signal

import pytest

from rf_edges import platform_commands
from rf_edges.edge import Edge
from rf_edges.every_command import EDGES, NAMED, of
from rf_edges.process import Moment
from rf_edges.world import World
from rf_platform.doctor.workspace import check_leftovers
from rf_platform.registry import Registry, RunStatus
from rf_platform.settings import Settings


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
    world.check_whole(edge, before)
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
    world.check_whole(edge, before)
