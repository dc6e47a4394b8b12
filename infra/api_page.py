"""Reference of the Python API, made from signatures and docstrings of what ``retrievalformer.__all__`` names."""

import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "api"))

import retrievalformer  # noqa: E402

GROUPS = {
    "Workspace": ("Workspace", "evaluate"),
    "Bundles in this process": ("load_bundle", "Bundle", "Event", "Recommendation"),
    "Datasets for PyTorch": (
        "Dataset",
        "HistoryDataset",
        "History",
        "HistoryBatch",
        "collate_histories",
        "Scorer",
        "Jagged",
    ),
    "Callbacks": (
        "Callback",
        "RunReport",
        "StepReport",
        "EpochReport",
        "StopTraining",
        "TrainResult",
        "MlflowTracker",
        "WandbTracker",
        "OptunaPruning",
    ),
    "Parts of your own": (
        "Recipe",
        "Block",
        "BlockSize",
        "Sight",
        "TowerKind",
        "Fusion",
        "FusionSize",
        "Contrast",
        "Sampler",
    ),
    "Errors": (
        "RfError",
        "UsageError",
        "ConfigError",
        "NotFoundError",
        "DataError",
        "CorruptError",
        "RunError",
        "UnavailableError",
        "UntrustedError",
    ),
}
"""Order of the page."""
_ROLE = re.compile(r":\w+:`~?([^`]+)`")
_ATTRIBUTE = re.compile(r'^    (\w+)(?:: ([^=\n]+?))?(?: = [^\n]+)?\n    """(.*?)"""', re.MULTILINE | re.DOTALL)


def api_page() -> list[str]:
    """Lines of the page.

    Raises:
        LookupError: a public name is in no group, or in a group and not public.
    """
    listed = [name for names in GROUPS.values() for name in names]
    if wrong := set(listed) ^ set(retrievalformer.__all__):
        raise LookupError(
            f"{', '.join(sorted(wrong))}: __all__ of retrievalformer and the groups of api_page.py differ"
        )
    rows: list[str] = []
    for group, names in GROUPS.items():
        rows += [f"## {group}", ""]
        for name in names:
            rows += _entry(name, getattr(retrievalformer, name))
    return rows


def _entry(name: str, thing: Any) -> Iterator[str]:
    yield from (f"### {name}", "")
    if inspect.isclass(thing):
        if not (dataclasses.is_dataclass(thing) or issubclass(thing, tuple | Exception) or inspect.isabstract(thing)):
            yield from _code(name, getattr(thing, "__init__", None))
        yield from _prose(thing)
        yield from _attributes(thing)
        for method, each in vars(thing).items():
            if method.startswith("_") or not (inspect.isfunction(each) or isinstance(each, classmethod | property)):
                continue
            function = each.fget if isinstance(each, property) else getattr(each, "__func__", each)
            yield from (f"**`{name}.{method}`**", "")
            if not isinstance(each, property):
                yield from _code(method, function)
            yield from _prose(function)
        return
    yield from _code(name, thing)
    yield from _prose(thing)


def _code(name: str, function: Any) -> Iterator[str]:
    if function is None or function is object.__init__:
        return
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    given = [each for each in signature.parameters.values() if each.name not in ("self", "cls")]
    result = signature.return_annotation
    arrow = "" if result in (inspect.Signature.empty, None) else f" -> {_type(result)}"
    parameters = list(_parameters(given))
    whole = f"{name}({', '.join(parameters)}){arrow}"
    lines = [whole] if len(whole) < 110 else [f"{name}(", *(f"    {each}," for each in parameters), f"){arrow}"]
    yield from ("```python", *lines, "```", "")


def _parameters(given: list[inspect.Parameter]) -> Iterator[str]:
    starred = False
    for each in given:
        if each.kind is each.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        prefix = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        annotation = "" if each.annotation is each.empty else f": {_type(each.annotation)}"
        equals = " = " if annotation else "="
        default = "" if each.default is each.empty else f"{equals}{each.default!r}"
        yield f"{prefix}{each.name}{annotation}{default}"


def _type(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    if not isinstance(annotation, str | type):
        text = str(annotation)
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=\w)", "", text.strip("'\""))


def _prose(thing: Any) -> Iterator[str]:
    text = _ROLE.sub(lambda found: f"`{found[1].rpartition('.')[2]}`", inspect.getdoc(thing) or "").replace("``", "`")
    for part in text.split("\n\n"):
        head, _, rest = part.partition("\n")
        if head in ("Args:", "Returns:", "Raises:"):
            yield from (f"*{head}*", "")
            items = re.split(r"\n(?=\S)", textwrap.dedent(rest))
            if head == "Returns:":
                yield from (" ".join(rest.split()), "")
            else:
                yield from (f"- {' '.join(item.split())}" for item in items)
                yield ""
        elif part.strip():
            yield from (" ".join(part.split()), "")


def _attributes(thing: type) -> Iterator[str]:
    try:
        source = inspect.getsource(thing)
    except (OSError, TypeError):
        return
    found = [(name, kind, " ".join(text.split())) for name, kind, text in _ATTRIBUTE.findall(source)]
    for name, kind, text in found:
        said = _ROLE.sub(lambda match: f"`{match[1].rpartition('.')[2]}`", text).replace("``", "`")
        yield f"- `{name}{f': {kind}' if kind else ''}`: {said}"
    if found:
        yield ""
