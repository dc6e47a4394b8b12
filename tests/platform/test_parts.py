"""Parts by name: the table's own, installed ones, dotted names, and what is none."""

import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import SimpleNamespace

import pytest

import rf_platform.parts
from rf_platform.errors import ConfigError
from rf_platform.parts import Parts

PARTS: Parts[int] = Parts("numbers", {"one": 1, "two": 2}, lambda found: found if isinstance(found, int) else None)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_parts.py").write_text("three = 3\nfour = 'four'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_parts", raising=False)
    return "own_parts"


def test_dotted_names_are_found_and_leave_the_table_as_it_is(module: str) -> None:
    assert (PARTS["two"], PARTS["own_parts:three"], PARTS["own_parts.three"]) == (2, 3, 3)
    assert list(PARTS) == ["one", "two"]


def test_entry_points_are_found_by_name(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = EntryPoints([EntryPoint("third", "own_parts:three", "retrievalformer.numbers")])
    monkeypatch.setattr(
        rf_platform.parts,
        "entry_points",
        lambda group: found if group == "retrievalformer.numbers" else SimpleNamespace(),
    )
    assert Parts("numbers", {"one": 1}, lambda found: found).find("third", "x") == 3
    with pytest.raises(
        ConfigError, match=r"x='fourth' must be 'one' or 'third'; or name your own as package\.module:name"
    ):
        Parts("numbers", {"one": 1}, lambda found: found).find("fourth", "x")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tree", r"train.n='tree' must be 'one' or 'two'; or name your own"),
        ("own_parts:five", r"train.n='own_parts:five' cannot be imported \(.*five.*PYTHONPATH"),
        ("no_such_package:x", r"cannot be imported \(No module named 'no_such_package'\)"),
        ("own_parts:four", r"train.n='own_parts:four' is str 'four', which is none of the numbers"),
    ],
)
def test_what_is_no_part_is_named(module: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PARTS.find(name, "train.n")
