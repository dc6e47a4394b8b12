"""Check of the English in docstrings, comments, protos and pages, by two rules of house style.

A docstring does not begin with a question word: its first sentence names the thing as a noun phrase, or says in the imperative
what a function does (which ruff's D401 checks). And ``who``, ``whose``, ``whom`` and ``whoever`` stand for people, never for
processes or data.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

SOURCES = ("api", "examples", "platform", "training", "serving", "protos", "feature_repo", "infra", "tests/benchmarks")
_QUESTION = re.compile(r"(What|Who|Whoever|Whose|Whom|How|Where|Which|When|Why|Whatever|Whichever)\b")
_PEOPLE = (
    "user|visitor|operator|person|customer|developer|everybody|everyone|anybody|anyone|somebody|someone|nobody|people"
)
_PERSONAL = re.compile(rf"(?:\b(?:{_PEOPLE})s?,? +(?:of |to |for )?)?\b(who|whose|whom|whoever)\b", re.IGNORECASE)
_CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$|``[^`]+``|`[^`\n]+`|<!--.*?-->", re.MULTILINE | re.DOTALL)


def impersonal(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and words of each ``who``, ``whose``, ``whom`` and ``whoever`` that does not follow a word for people."""
    plain = _CODE.sub(lambda found: re.sub(r"[^\n]", "·", found[0]), text)
    flat = re.sub(r"\s", " ", re.sub(r"\n *(?:#|//) ?", lambda found: " " * len(found[0]), plain))
    for found in _PERSONAL.finditer(flat):
        if found.start() == found.start(1):
            yield text.count("\n", 0, found.start()), flat[max(0, found.start() - 30) : found.end() + 10].strip()


def prose_of(source: str) -> Iterator[tuple[int, str]]:
    """Yield first line and text of every docstring, documented attribute and block of comments of a Python file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value
    block: list[str] = []
    begun = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            begun = begun if block else token.start[0]
            block.append(token.string)
        elif token.type != tokenize.NL and block:
            yield begun, "\n".join(block)
            block = []


def questions(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and first line of the docstrings, those of attributes among them, that begin with a question word."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            text = node.value.value.lstrip()
            if _QUESTION.match(text):
                yield node.lineno, text.splitlines()[0]


def faults(root: Path, sources: tuple[str, ...] = SOURCES) -> Iterator[str]:
    """Yield the faults of all sources and of ``docs/`` as sentences with file and line."""
    files = [path for each in sources for path in sorted((root / each).rglob("*")) if path.suffix in (".py", ".proto")]
    for path in (*files, *sorted((root / "docs").glob("*.md"))):
        if "_pb2" in path.name:
            continue
        text, name = path.read_text(encoding="utf-8"), path.relative_to(root)
        if path.suffix == ".py":
            for line, words in questions(text):
                yield f"{name}:{line}: a docstring names the thing or gives an order; this one asks: {words}"
        for begun, prose in prose_of(text) if path.suffix == ".py" else [(1, text)]:
            for line, words in impersonal(prose):
                yield f"{name}:{begun + line}: who, whose and whom are for people; write that, which or with: {words}"
