"""docs/paper.md names code, tests and settings that exist."""

import ast
import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from rf_training.config import TrainConfig
from rf_training.model.config import ModelConfig
from rf_training.recipes import get_recipe, override

ROOT = Path(__file__).parents[2]
ROOTS = [ROOT / name for name in ("platform", "training", "serving", "protos", "tests/benchmarks")]
LINES = [
    line
    for line in (ROOT / "docs" / "paper.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| [RL]\d", line)
]
ROWS = {
    row: (settings, where, test)
    for row, _, settings, where, test in (map(str.strip, line.strip("|").split("|")) for line in LINES)
}
NEEDED = [*(f"R{n}" for n in range(1, 25)), *(f"L{n}" for n in range(1, 12))]


def references(cell: str) -> list[tuple[str, str]]:
    """Files and symbols of a cell; a symbol without a file is in the file before it."""
    found: list[tuple[str, str]] = []
    for code in re.findall(r"`([^`]+)`", cell):
        file, colon, symbol = code.partition(": ")
        found.append((file, symbol) if colon else (found[-1][0], code))
    return found


@cache
def symbols(file: Path) -> set[str]:
    """Names that a file defines at its top, and ``Class.method``."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return names


def test_every_row_is_there_once() -> None:
    assert len(ROWS) == len(LINES)
    assert list(ROWS) == NEEDED


@pytest.mark.parametrize("row", ROWS)
def test_code_and_tests_exist(row: str) -> None:
    _, where, test = ROWS[row]
    code, tests = references(where), references(test)
    assert code
    assert tests
    for file, symbol in code:
        path = next((root / file for root in ROOTS if (root / file).is_file()), None)
        assert path is not None, file
        assert symbol in symbols(path), f"{file}: {symbol}"
    for file, symbol in tests:
        assert file.startswith("tests/"), file
        assert symbol.startswith("test_"), symbol
        assert symbol in symbols(ROOT / file), f"{file}: {symbol}"


@pytest.mark.parametrize("row", ROWS)
def test_settings_are_taken(row: str) -> None:
    known = {f"model.{f.name}" for f in fields(ModelConfig)} | {f"train.{f.name}" for f in fields(TrainConfig)}
    for setting in re.findall(r"`([^`]+)`", ROWS[row][0]):
        name, _, value = setting.partition("=")
        assert name in known, setting
        if value:
            override(get_recipe("default"), [setting])
