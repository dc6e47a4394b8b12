"""Files and messages are plain: nothing that is read can be code, whoever wrote it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for root in ("console", "api", "platform", "training", "serving", "protos", "infra")
    for path in (ROOT / root).rglob("*.py")
)
MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "torch.distributed.checkpoint",
}
"""The last one keeps a pickle beside its tensors."""
CALLS = {
    "all_gather_object",
    "broadcast_object_list",
    "gather_object",
    "read_pickle",
    "recv_object_list",
    "scatter_object_list",
    "send_object_list",
    "to_pickle",
}
"""Of pandas, and the collectives of torch that pickle what they send."""


def unsafe(text: str) -> Iterator[str]:
    """What reads, or sends, more than plain values."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith(tuple(MODULES)))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(tuple(MODULES)):
            yield str(node.module)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            call = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            objects = call == "torch.load" and given.get("weights_only") != "True"
            objects |= call == "np.load" and given.get("allow_pickle", "False") != "False"
            if objects or node.func.attr in CALLS:
                yield call


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import joblib.memory",
        "from dill import loads",
        "from torch.distributed.checkpoint.state_dict_loader import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "dist.all_gather_object(found, value)",
        "pd.read_pickle(path)",
    ],
)
def test_it_is_noticed(line: str) -> None:
    assert list(unsafe(line))


def test_nothing_is_unpickled() -> None:
    assert len(SOURCES) > 300
    found = {str(path.relative_to(ROOT)): list(unsafe(path.read_text(encoding="utf-8"))) for path in SOURCES}
    assert {path: calls for path, calls in found.items() if calls} == {}
