"""Check that documents are what code and results give, in order, with links that work and plain prose; ``--write`` corrects."""

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from check_prose import faults as faults_of_prose
from doc_tables import ROOT, TABLES, wrong_defaults
from draw_pictures import PICTURES

from rf_platform.policies import policy_schema

PAGES: dict[str, dict[str, str]] = {
    "Tutorial": {"tutorial.md": "from a made-up shop to answers over gRPC, then with your own files"},
    "How-to": {
        "data.md": "import interactions, items and users; say what events mean",
        "protocols.md": "choose what is held out",
        "text.md": "give items texts and images",
        "training.md": "train, choose a recipe and settings, go on from a bundle",
        "ablations.md": "find out what a setting does",
        "reports.md": "read the report of a run",
        "reranking.md": "train and compare re-rankers",
        "scaling.md": "train with several processes and large tables",
        "live-catalog.md": "change items while they are served",
        "nightly.md": "train, compare and promote every night with one command, and remove what is old",
        "events.md": "record what users do",
        "filters.md": "restrict what may be returned",
        "similar-items.md": "ask for items that are like others",
        "lists.md": "answer visitors of which nothing is known; mix several sources in one answer",
        "policies.md": "say what each placement of a shop shows",
        "experiments.md": "find out whether a bundle is better: interleaving, splits",
        "explanations.md": "ask why an item is there",
        "clients.md": "call the server from any language: deadlines, retries, errors",
        "python.md": "train, evaluate and recommend from Python",
        "http.md": "call a server over HTTP with JSON",
        "console.md": "look at everything in the browser, and change it",
        "skew.md": "prove that served features are those of the training data: serving log, replay, gate, erasure of a user",
        "deployment.md": "from nothing to a server in containers: image, compose, Kubernetes",
        "object-store.md": "keep bundles, datasets and runs at a URL; servers fetch what they need",
        "operations.md": "run the server: protection, limits, deployments, metrics, failures",
    },
    "Reference": {
        "commands.md": "every command and option",
        "api.md": "every public name of the Python package",
        "serving.md": "bundle, index, request, reply, errors",
        "registry.md": "what is recorded; bundles, promotion, rollback",
        "benchmarks.md": "how fast it is",
        "glossary.md": "terms of the field, with our classes and commands",
        "dependencies.md": "what is installed, and why",
    },
    "Explanation": {
        "architecture.md": "layers, contracts, data flow, life of a request",
        "evaluation.md": "how figures are made, what they mean, results",
        "paper.md": "the paper's rows, with code and tests",
        "case-study.md": "new items, worked through",
    },
}
"""Reading order of ``docs/``: by part, every page with its use."""
SOURCES = ("api", "console", "examples", "platform", "training", "serving", "protos", "feature_repo", "infra", "tests")
"""Directories with code."""
_FENCED = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)|(?:src|srcset|href)=\"([^\"#]*)(?:#([^\"]*))?\"")
_NAMED = re.compile(r"\[`([\w.]+)`\]\(([^)\s#]+\.py)\)")
_PATH = re.compile(r"`((?:[\w.-]+/)+[\w-]+\.(?:py|proto))`")
_MODULES = re.compile(r"^\| module of `([\w.]+)` \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", re.MULTILINE)
_FOOTER = re.compile(r"\n*<!-- pages -->\n.*?<!-- /pages -->\n*\Z", re.DOTALL)


def with_lines(page: str, mark: str, lines: Sequence[str]) -> str:
    """Return the page with the lines between the marks ``<!-- mark -->`` and ``<!-- /mark -->``.

    Raises:
        LookupError: the page does not have these marks once.
    """
    between = re.compile(rf"(?<=<!-- {mark} -->\n).*?(?=<!-- /{mark} -->)", re.DOTALL)
    found, count = between.subn(lambda _: "\n".join(lines) + "\n", page)
    if count != 1:
        raise LookupError(f"has no marks for the table '{mark}'")
    return found


def index(pages: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Lines of the index page."""
    lines: list[str] = []
    for part, each in pages.items():
        lines += [f"**{part}**", "", *(f"- [{title(name)}]({name}): {use}" for name, use in each.items()), ""]
    return lines[:-1]


def title(name: str) -> str:
    """First heading of a page of ``docs/``, without what follows a colon."""
    first = (ROOT / "docs" / name).read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("# ").partition(":")[0]


def with_neighbours(text: str, name: str, pages: Mapping[str, Mapping[str, str]]) -> str:
    """Return a page with the links to the pages before and after it at its end."""
    order = [each for part in pages.values() for each in part]
    place = order.index(name)
    links = ["[Index](README.md)"]
    if place:
        links.insert(0, f"[← {title(order[place - 1])}]({order[place - 1]})")
    if place + 1 < len(order):
        links.append(f"[{title(order[place + 1])} →]({order[place + 1]})")
    return f"{_FOOTER.sub('', text).rstrip()}\n\n<!-- pages -->\n---\n\n{' · '.join(links)}\n<!-- /pages -->\n"


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.*)$", _FENCED.sub("", text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip()).lower()
        anchor = base = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        count = 0
        while anchor in found:
            count += 1
            anchor = f"{base}-{count}"
        found.add(anchor)
    return found


def dead_links(root: Path, texts: Mapping[str, str]) -> Iterator[str]:
    """Relative links that lead to no file or no heading, as ``page: link``.

    Args:
        root: what the names are relative to.
        texts: pages by name.
    """
    for name, text in texts.items():
        for target, anchor, source, place in _LINK.findall(re.sub(r"`[^`\n]*`", "", _FENCED.sub("", text))):
            target, anchor = target or source, anchor or place
            if ":" in target or not (target or anchor):
                continue
            path = ((root / name).parent / target if target else root / name).resolve()
            within = str(path.relative_to(root)) if path.is_relative_to(root) else ""
            if within not in texts and not path.exists():
                yield f"{name}: {target} is no file"
            elif (
                anchor and path.suffix == ".md" and anchor not in anchors(texts.get(within) or path.read_text("utf-8"))
            ):
                yield f"{name}: {target}#{anchor} is no heading"


def dead_names(root: Path, texts: Mapping[str, str]) -> Iterator[str]:
    """Names in code that pages link to and that are not defined there, and paths of code that no file has.

    Args:
        root: what the names are relative to.
        texts: pages by name.
    """
    sources = [f"/{path.relative_to(root)}" for top in SOURCES for path in (root / top).rglob("*.*")]
    for name, text in texts.items():
        for words, target in _NAMED.findall(text):
            path = (root / name).parent / target
            if path.is_file() and not set(words.split(".")) <= names_in(path):
                yield f"{name}: {target} does not define {words}"
        for path in _PATH.findall(_FENCED.sub("", text)):
            if name != "CHANGELOG.md" and not any(each.endswith(f"/{path}") for each in sources):
                yield f"{name}: {path} is no file"
        for package, rows in _MODULES.findall(text):
            top = f"/{package.replace('.', '/')}/"
            for module in re.findall(r"`([\w/]+(?:\.py)?)`", "".join(re.findall(r"^\|[^|]*\|", rows, re.MULTILINE))):
                if not any(top + module in each for each in sources):
                    yield f"{name}: {package} has no {module}"


def names_in(path: Path) -> set[str]:
    """Names of the classes, functions and attributes that a Python file defines."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            found.update(target.id for target in targets if isinstance(target, ast.Name))
    return found


def documents(
    root: Path = ROOT,
    tables: Mapping[str, Sequence[tuple[str, Callable[[], list[str]]]]] = TABLES,
    pages: Mapping[str, Mapping[str, str]] = PAGES,
) -> tuple[dict[str, str], list[str]]:
    """Return what every document has to say, by name, and what ``--write`` cannot mend."""
    names = [
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
        *(f"docs/{path.name}" for path in sorted((root / "docs").glob("*.md"))),
    ]
    right = {name: (root / name).read_text(encoding="utf-8") for name in names if (root / name).exists()}
    listed = {f"docs/{name}" for part in pages.values() for name in part} | {"docs/README.md"}
    faults = [
        f"{name} is not in the reading order (PAGES)"
        for name in right
        if name.startswith("docs/") and name not in listed
    ]
    faults += [f"{name} is in the reading order (PAGES) and does not exist" for name in sorted(listed - set(right))]
    if any("does not exist" in fault for fault in faults):
        return right, faults
    for name in listed - {"docs/README.md"}:
        right[name] = with_neighbours(right[name], name.removeprefix("docs/"), pages)
    for name, parts in {**tables, "docs/README.md": [("index", lambda: index(pages))]}.items():
        for mark, lines in parts:
            try:
                right[name] = with_lines(right[name], mark, lines())
            except LookupError as error:
                faults.append(f"{name}: {error.args[0]}")
    faults += [f"{name}: {fault}" for name, text in right.items() for fault in wrong_defaults(text)]
    right |= {f"docs/pictures/{name}": picture for name, picture in PICTURES.items()}
    right["docs/policy.schema.json"] = policy_schema()
    return right, [*faults, *dead_links(root, right), *dead_names(root, right)]


def main() -> int:
    """Compare, or write; returns the exit code."""
    right, faults = documents()
    faults += faults_of_prose(ROOT)
    stale = [
        n for n, text in right.items() if not (ROOT / n).exists() or (ROOT / n).read_text(encoding="utf-8") != text
    ]
    if "--write" in sys.argv:
        for name in stale:
            (ROOT / name).parent.mkdir(exist_ok=True)
            (ROOT / name).write_text(right[name], encoding="utf-8")
    else:
        faults += [f"{name} is not what code and results give; run `make stubs`" for name in stale]
    sys.stderr.writelines(f"{fault}\n" for fault in faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
