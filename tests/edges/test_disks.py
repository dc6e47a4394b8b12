"""Every command on a full disk and on a read-only one: it ends well or with one sentence, and nothing half-made is left."""

import re

import pytest

from rf_edges import platform_commands
from rf_edges.edge import Edge
from rf_edges.every_command import EDGES, of
from rf_edges.world import World

READ_ONLY = "read-only|cannot be written|readonly|writable"
FULL = "no space left on the disk of|could not be written"


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
