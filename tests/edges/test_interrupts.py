"""Every command interrupted at its moments: one line, and nothing half-made is left."""

import re
import signal

import pytest

from rf_edges.edge import Edge
from rf_edges.every_command import EDGES
from rf_edges.process import Moment
from rf_edges.world import World

COMPLETE = "is complete|exists and is not empty"
"""What is said of a result that is there already; it was interrupted after it had its name."""


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
    world.check_whole(edge, before)
    untouched = moment[0] == "import" and world.files() == before
    if (edge.alone or edge.after) and not untouched:
        again = world.run(edge.command_line(world.home, again=True))
        if edge.after and again.code == 2 and "is complete" not in again.sentence:
            again = world.run(arguments)  # it had not begun
        assert again.check().code == 0 or re.search(COMPLETE, again.sentence), again.err
