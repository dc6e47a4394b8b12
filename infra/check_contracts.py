"""Check that the ``.proto`` files say of roles and statuses what the server does; ``--write`` corrects them."""

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from rf_serving.server.rpc import METHOD_ROLES, METHOD_STATUSES

ROOT = Path(__file__).resolve().parents[1]
_SERVICE, _METHOD, _ROLE = re.compile(r"service (\w+) "), re.compile(r"  rpc (\w+)\("), "  // Needs the role "
_SAID_ROLE = re.compile(r' Needs the role "[^.]*\.')
_SAID_STATUSES = re.compile(r"  // Errors: [^.]*\.\n")


def with_roles(proto: str) -> str:
    """Return a contract with the role as the last line of every method's comment.

    Raises:
        KeyError: a service or a method is not in the table of roles.
    """
    lines: list[str] = []
    service = ""
    for line in proto.splitlines():
        said, line = line, _SAID_ROLE.sub("", line)
        if said != line and line.strip() == "//":
            continue
        if found := _SERVICE.match(line):
            service = found[1]
        if found := _METHOD.match(line):
            lines.append(f'  // Needs the role "{METHOD_ROLES[service][found[1]].name.lower()}".')
        lines.append(line)
    return "\n".join(lines) + "\n"


def with_statuses(proto: str) -> str:
    """Return a contract with the statuses of every method in its comment, before the role.

    Raises:
        KeyError: a service or a method is not in the table of statuses.
    """
    lines: list[str] = []
    service = ""
    for line in _SAID_STATUSES.sub("", proto).splitlines():
        if found := _SERVICE.match(line):
            service = found[1]
        if found := _METHOD.match(line):
            place = len(lines) - 1 if lines[-1].startswith(_ROLE) else len(lines)
            said = f"Errors: {', '.join(METHOD_STATUSES[service][found[1]])}."
            lines[place:place] = textwrap.wrap(said, 120, initial_indent="  // ", subsequent_indent="  // ")
        lines.append(line)
    return "\n".join(lines) + "\n"


def stated() -> Iterator[tuple[Path, str, str]]:
    """Give every contract that speaks of roles and statuses, what it says, and what it has to say."""
    for path in sorted((ROOT / "protos").glob("rf_protos/**/*.proto")):
        yield path, (text := path.read_text()), with_statuses(with_roles(text))


def main() -> int:
    """Compare, or write; returns the exit code."""
    stale = [(path, right) for path, text, right in stated() if text != right]
    if "--write" in sys.argv:
        for path, right in stale:
            path.write_text(right)
        return 0
    if stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path, _ in stale)
        sys.stderr.write(f"other roles or statuses than the server's: {names}; run `make stubs`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
