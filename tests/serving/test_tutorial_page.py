"""The tutorial: its commands, run from the page in a directory of their own, up to answers with titles."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rf_platform.cli.app import app
from rf_platform.data.synth import MAPPING, write_shop
from rf_platform.errors import UsageError
from rf_platform.settings import get_settings

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("#")[0].strip().removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", PAGE.partition("## Your own files")[2], re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    for name in ("RF_HOME", "RF_FEATURE_REPO", "RF_ADDRESS"):
        monkeypatch.setenv(name, "")  # so that what the commands export is taken back
        monkeypatch.delenv(name)
    get_settings.cache_clear()
    yield tmp_path
    get_settings.cache_clear()


def test_the_page_shows_the_mapping_that_is_written() -> None:
    (shown,) = re.findall(r"<!-- shop.yaml -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert shown == MAPPING


def test_equal_seeds_write_equal_shops_and_nothing_is_replaced(tmp_path: Path) -> None:
    first, second = write_shop(tmp_path / "a"), write_shop(tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    with pytest.raises(UsageError, match="is there already; name a new directory"):
        write_shop(tmp_path / "a")


def test_the_commands_lead_to_answers(
    directory: Path, start_server: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert COMMANDS[-2:] == ["rf serve &", "rf query --user 42 -k 5"]
    for command in COMMANDS[:-2]:
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            os.environ[name] = value
            get_settings.cache_clear()
            continue
        assert command.startswith("rf "), command
        app(command.split()[1:], standalone_mode=False)
    capsys.readouterr()
    with start_server(get_settings()) as running:
        os.environ["RF_ADDRESS"] = running.server.address
        app([*COMMANDS[-1].split()[1:], "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert len(found["items"]) == 5
    assert "No. " in json.dumps(found["items"])
