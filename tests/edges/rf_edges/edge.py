"""What is declared of a command, and which commands there are."""

import importlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from typer.main import get_command

from rf_platform.cli.commands import COMMANDS

_HALF = re.compile(r"(^|/)\.[^/]*|\.tmp$")
"""Names of unfinished files and directories."""


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A command, what it reads and what it writes. ``{home}`` in any text is the workspace."""

    name: str
    """As it is typed, without ``rf``."""
    arguments: tuple[str, ...] = ()
    """What else is typed; the command succeeds with it in the world of the tests."""
    reads: tuple[str, ...] = ()
    """Files that a user, or a disk, can spoil."""
    passes: frozenset[tuple[str, str]] = frozenset()
    """Pairs of file and fault with which the command may end well."""
    writes: tuple[str, ...] = ()
    """Glob patterns of what it makes or changes; everything else is as before, however it ends."""
    makes: tuple[str, ...] = ()
    """Paths that are taken away before it runs, since it makes them anew."""
    fails: bool = False
    """It looks for faults: exit code 1 is its answer, not a sentence."""

    slow: bool = False
    """It takes seconds: fewer moments are tried."""

    def strays(self, before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
        """Return what differs and is not the command's to write, or is half-made."""
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        ours = {name for name in changed if any(fnmatch(name, pattern) for pattern in self.writes)}
        half = {name for name in after.keys() - before.keys() if _HALF.search(name)}
        return sorted((changed - ours) | half)

    def command_line(self, home: Path) -> list[str]:
        """Return what is typed after ``rf``."""
        return [*self.name.split(), *(argument.format(home=home) for argument in self.arguments)]


def commands(packages: Collection[str]) -> list[str]:
    """Return the names of all commands that lie in some packages, from the table of the command line."""
    found = []
    for name, entry in COMMANDS.items():
        module, attribute = entry.target.split(":")
        if module.partition(".")[0] in packages and entry.installed:
            found += list(_leaves(get_command(getattr(importlib.import_module(module), attribute)), name))
    return found


def _leaves(command: Any, name: str) -> Iterator[str]:
    below = getattr(command, "commands", None)
    if below is None:
        yield name
        return
    for each, under in below.items():
        yield from _leaves(under, f"{name} {each}")
