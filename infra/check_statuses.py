"""Check that the ``.proto`` files and ``docs/serving.md`` say of statuses what the server answers; ``--write`` corrects them."""

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from rf_serving.server.statuses import METHOD_STATUSES, STATUSES

ROOT = Path(__file__).resolve().parents[1]
_SERVICE, _METHOD, _ROLE = re.compile(r"service (\w+) "), re.compile(r"  rpc (\w+)\("), "  // Needs the role "
_SAID = re.compile(r"  // Errors: [^.]*\.\n")
_TABLE = re.compile(r"(?<=<!-- statuses -->\n).*?(?=<!-- /statuses -->)", re.DOTALL)


def with_statuses(proto: str) -> str:
    """Return a contract with the statuses of every method in its comment, before the role.

    Raises:
        KeyError: a service or a method is not in the table of statuses.
    """
    lines: list[str] = []
    service = ""
    for line in _SAID.sub("", proto).splitlines():
        if found := _SERVICE.match(line):
            service = found[1]
        if found := _METHOD.match(line):
            place = len(lines) - 1 if lines[-1].startswith(_ROLE) else len(lines)
            said = f"Errors: {', '.join(METHOD_STATUSES[service][found[1]])}."
            lines[place:place] = textwrap.wrap(said, 120, initial_indent="  // ", subsequent_indent="  // ")
        lines.append(line)
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """Return the page with the table of statuses between its marks."""
    rows = ["| status | when | what to do |", "|---|---|---|"]
    rows += [f"| {name} | {meaning.when} | {meaning.remedy} |" for name, meaning in STATUSES.items()]
    found, count = _TABLE.subn(lambda _: "\n".join(rows) + "\n", page)
    assert count == 1, "the page has no marks for the table of statuses"
    return found


def stated() -> Iterator[tuple[Path, str, str]]:
    """Give every file that speaks of statuses, what it says, and what it has to say."""
    for path in sorted((ROOT / "protos").glob("rf_protos/**/*.proto")):
        yield path, (text := path.read_text()), with_statuses(text)
    page = ROOT / "docs" / "serving.md"
    yield page, (text := page.read_text()), with_table(text)


def main() -> int:
    """Compare, or write; returns the exit code."""
    stale = [(path, right) for path, text, right in stated() if text != right]
    if "--write" in sys.argv:
        for path, right in stale:
            path.write_text(right)
        return 0
    if stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path, _ in stale)
        sys.stderr.write(f"other statuses than the server's: {names}; run `make stubs`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
