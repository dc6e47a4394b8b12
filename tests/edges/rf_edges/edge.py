"""What is declared of a command, and which commands there are."""

import importlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from typer.main import get_command

from rf_edges.process import Moment
from rf_platform.cli.commands import COMMANDS

_HALF = re.compile(r"(^|/)\.(?!lock)|\.(part|tmp)$")
"""Names of unfinished files and directories."""


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A command, what it reads and writes, and where it is hurt. ``{home}`` in arguments is the workspace."""

    name: str
    """As it is typed, without ``rf``."""
    variant: str = ""
    """What distinguishes it from another entry of the same command."""
    arguments: str = ""
    """What else is typed, ``{server}`` for an address at which nothing answers."""
    reads: tuple[str, ...] = ()
    """Files that a user, or a disk, can spoil."""
    passes: frozenset[tuple[str, str]] = frozenset()
    """Pairs of file and fault with which the command may end well."""
    writes: tuple[str, ...] = ()
    """Glob patterns of what it makes or changes; everything else is as before, however it ends."""
    makes: tuple[str, ...] = ()
    """Paths that are taken away before it runs, since it makes them anew."""
    needs_room: bool = False
    """It cannot end well on a disk without a free byte."""
    fails: bool = False
    """It looks for faults: exit code 1 is its answer, not a sentence."""
    alone: bool = True
    """It ends well in the world of the tests: it asks no server, is none and downloads nothing."""

    moments: tuple[Moment, ...]
    """Where it is interrupted: during imports, while it reads or writes, when the result gets its name."""
    stops: bool = False
    """An interrupt at the last moment is how it ends well."""
    after: str | None = None
    """What is run after an interrupt, or when a full disk has room again; default: the same."""
    pause: Moment | None = None
    """Where the first of two copies is held while the second runs; default: the last of the moments."""
    waits: bool = False
    """The second copy waits for the first."""
    refused: str | None = None
    """What the second copy is told, as a regular expression; None where both end well."""
    overtaken: str | None = None
    """What the first copy is told, which was held while the second ended; None where it ends well."""

    def __str__(self) -> str:
        return f"{self.name} {self.variant}".strip()

    def strays(self, before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
        """Return what differs and is not the command's to write, or is half-made."""
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        ours = {name for name in changed if any(fnmatch(name, pattern) for pattern in self.writes)}
        half = {name for name in after.keys() - before.keys() if _HALF.search(name)}
        return sorted((changed - ours) | half)

    def command_line(self, home: Path, again: bool = False) -> list[str]:
        """Return what is typed after ``rf``, or what is run afterwards."""
        typed = self.after if again and self.after else f"{self.name} {self.arguments}"
        return typed.format(home=home, server="127.0.0.1:9").split()


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
