"""Check that the ``.proto`` files and ``docs/operations.md`` say of roles what the server enforces; ``--write`` corrects them."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from rf_serving.server.roles import METHOD_ROLES, REFLECTION_ROLE, Role

ROOT = Path(__file__).resolve().parents[1]
_SAID = re.compile(r' Needs the role "[^.]*\.')
_SERVICE, _METHOD = re.compile(r"service (\w+) "), re.compile(r"  rpc (\w+)\(")
_TABLE = re.compile(r"(?<=<!-- roles -->\n).*?(?=<!-- /roles -->)", re.DOTALL)


def with_roles(proto: str) -> str:
    """Return a contract with the role as the last line of every method's comment.

    Raises:
        KeyError: a service or a method is not in the table of roles.
    """
    lines: list[str] = []
    service = ""
    for line in proto.splitlines():
        said, line = line, _SAID.sub("", line)
        if said != line and line.strip() == "//":
            continue
        if found := _SERVICE.match(line):
            service = found[1]
        if found := _METHOD.match(line):
            lines.append(f'  // Needs the role "{METHOD_ROLES[service][found[1]].name.lower()}".')
        lines.append(line)
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """Return the page with the table of roles between its marks."""
    rows = ["| role | may call |", "|---|---|"]
    for role in Role:
        methods = [f"`{name}`" for roles in METHOD_ROLES.values() for name, needed in roles.items() if needed is role]
        if role is REFLECTION_ROLE:
            methods.append("reflection")
        rows.append(f"| {role.name.lower()} | {'' if role is min(Role) else 'also '}{', '.join(methods)} |")
    found, count = _TABLE.subn("\n".join(rows) + "\n", page)
    assert count == 1, "the page has no marks for the table of roles"
    return found


def stated() -> Iterator[tuple[Path, str, str]]:
    """Give every file that speaks of roles, what it says, and what it has to say."""
    for path in sorted((ROOT / "protos").glob("rf_protos/**/*.proto")):
        yield path, (text := path.read_text()), with_roles(text)
    page = ROOT / "docs" / "operations.md"
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
        sys.stderr.write(f"other roles than the server's: {names}; run `make stubs`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
