"""Every command with each file that it reads damaged: one sentence, and nothing half-made is left.

A command that nobody declared fails the first test.
"""

import re
from pathlib import Path

import pytest

from rf_edges.edge import Edge, commands
from rf_edges.every_command import EDGES
from rf_edges.faults import FAULTS
from rf_edges.world import World


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
