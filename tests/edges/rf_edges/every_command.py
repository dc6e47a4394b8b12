"""All commands, and what tests select of them."""

from collections.abc import Iterable

import pytest

from rf_edges import platform_commands, serving_commands, training_commands
from rf_edges.edge import Edge

EDGES = (*platform_commands.EDGES, *training_commands.EDGES, *serving_commands.EDGES)
"""Every command of the three packages."""
NAMED = {str(edge): edge for edge in EDGES}
"""The same by name."""


def of(edges: Iterable[Edge]) -> pytest.MarkDecorator:
    """Run a test for each of some commands."""
    return pytest.mark.parametrize("edge", list(edges), ids=str)
