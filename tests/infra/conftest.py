"""What files of the deployment say of the platform, held against the platform."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

ROOT = Path(__file__).parents[2]


def parse_command(words: Sequence[str]) -> None:
    """Parse a command line of ``rf`` without running it.

    Raises:
        Exception: there is no such command or option, or a value that it does not take.
    """
    from rf_platform.cli.app import app

    command: Any = get_command(app)
    name, parent, rest = "rf", None, list(words)
    while hasattr(command, "resolve_command"):
        parent = command.make_context(name, rest, parent=parent)
        found, command, rest = command.resolve_command(parent, [*parent._protected_args, *parent.args])
        name = str(found)
    command.make_context(name, rest, parent=parent)


def known_variables() -> set[str]:
    """Variables that the sources name, and those of the settings."""
    from rf_platform.settings import Settings

    found = {f"RF_{name.upper()}" for name in Settings.model_fields}
    for source in ("platform", "serving", "training"):
        for path in (ROOT / source).rglob("*.py"):
            found |= set(re.findall(r'"(RF_[A-Z_]+)"', path.read_text(encoding="utf-8")))
    return found


@pytest.fixture(scope="session")
def command_line() -> Callable[[Sequence[str]], None]:
    """Parse a command line of ``rf``: ``command_line(["serve", "--port=1"])``; a fault raises."""
    return parse_command


@pytest.fixture(scope="session")
def variables() -> set[str]:
    """All variables ``RF_*`` that there are."""
    return known_variables()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of the shell stand for options."""
    for name in [name for name in os.environ if name.startswith("RF_")]:
        monkeypatch.delenv(name)
