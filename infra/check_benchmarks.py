"""Check that docs/benchmarks.md lists the benchmarks that there are; ``--write`` corrects the list."""

import re
import sys
from pathlib import Path

from rf_bench.commands import BENCHMARKS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
_BETWEEN = re.compile(r"(?<=<!-- benchmarks -->\n).*?(?=<!-- /benchmarks -->)", re.DOTALL)


def with_list(page: str) -> str:
    """Return the page with the list of benchmarks between its marks."""
    rows = ["| command | measures | figures |", "|---|---|---|"]
    for name, each in BENCHMARKS.items():
        link = each.figures.removeprefix(PAGE.name)
        rows.append(f"| `rf bench {name}` | {each.summary} | [{each.figures.partition('#')[0]}]({link}) |")
    found, count = _BETWEEN.subn(lambda _: "\n".join(rows) + "\n", page)
    assert count == 1, f"{PAGE.name} has no marks for the list of benchmarks"
    return found


def main() -> int:
    """Compare, or write; returns the exit code."""
    page = PAGE.read_text(encoding="utf-8")
    right = with_list(page)
    if "--write" in sys.argv:
        PAGE.write_text(right, encoding="utf-8")
    elif page != right:
        sys.stderr.write(f"docs/{PAGE.name} lists other benchmarks than `rf bench`; run `make stubs`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
