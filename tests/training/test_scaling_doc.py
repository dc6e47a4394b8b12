"""The arithmetic in docs/scaling.md is right."""

from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
GIB = 1 << 30
DIM = 64
ROWS = {"1M": 10**6, "100M": 10**8, "1B": 10**9}


def cells(begins: str) -> list[str]:
    """The cells of the only table row whose first cell is ``begins``."""
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {begins} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def bytes_a_row() -> dict[str, int]:
    return {
        "data-parallel, AdamW": 5 * 4 * DIM,
        "sharded, row-wise Adagrad": 4 * DIM + 4,
        "the same, `column_wise`, 32 columns a part": 4 * DIM + 4 * DIM // 32,
        "sharded, Adam (GPUs)": 3 * 4 * DIM,
    }


@pytest.mark.parametrize("kind", bytes_a_row())
def test_bytes_a_row(kind: str) -> None:
    assert int(cells(kind)[5].replace(",", "")) == bytes_a_row()[kind]


@pytest.mark.parametrize("rows", ROWS)
def test_memory_by_rows(rows: str) -> None:
    plain, adagrad, _, adam = (size * ROWS[rows] / GIB for size in bytes_a_row().values())
    expected = [plain, adagrad, adagrad / 8, adagrad / 64, adam, adam / 8, adam / 64]
    for cell, value in zip(cells(rows)[1:], expected, strict=True):
        digits = len(cell.partition(".")[2])
        assert float(cell.replace(",", "")) == pytest.approx(value, abs=0.51 * 10**-digits), cell
