"""docs/reranking.md names code, tests, kinds and settings that exist."""

import ast
import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from rf_training.rerank import RERANKERS, RerankConfig
from rf_training.rerank.recipe import RerankTraining

ROOT = Path(__file__).parents[3]
ROOTS = [ROOT / name for name in ("training", "serving", "platform")]
TEXT = (ROOT / "docs" / "reranking.md").read_text(encoding="utf-8")
LINES = [line for line in TEXT.splitlines() if re.match(r"\| L\d+ ", line)]


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


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split()[1])
def test_code_and_tests_of_a_row_exist(line: str) -> None:
    _, _, where, test = map(str.strip, line.strip("|").split("|"))
    for cell, roots in ((where, ROOTS), (test, [ROOT])):
        file = ""
        assert cell
        for code in re.findall(r"`([^`]+)`", cell):
            before, colon, symbol = code.partition(": ")
            file, symbol = (before, symbol) if colon else (file, code)
            path = next((root / file for root in roots if (root / file).is_file()), None)
            assert path is not None, file
            assert symbol in symbols(path), code
            assert roots is ROOTS or symbol.startswith("test_")


def test_rows_are_numbered() -> None:
    assert [line.split()[1] for line in LINES] == [f"L{n}" for n in range(1, len(LINES) + 1)]


def test_kinds_and_settings_exist() -> None:
    assert all(f"| `{kind}` |" in TEXT for kind in RERANKERS)
    known = {"rerank": {f.name for f in fields(RerankConfig)}, "train": {f.name for f in fields(RerankTraining)}}
    named = re.findall(r"`(?:--set )?(rerank|train)\.([a-z_]+)(?:=[^`]*)?`", TEXT)
    assert len(named) > 5
    assert all(name in known[section] for section, name in named), named
