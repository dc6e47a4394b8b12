"""Benchmarks as a whole, as small as they get: what they print is the document that they write."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rf_platform.settings import get_settings

RUNS = {
    "encode": ["--history", "2", "--dim", "8", "--repeats", "3"],
    "fetch": ["--users", "32", "--reads", "100"],
    "filter": ["--sizes", "2k", "--queries", "10", "--dim", "8", "--training-steps", "2"],
}


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have commands work in a workspace of the test, and leave numbers of threads as they were."""
    import torch

    threads = torch.get_num_threads()
    monkeypatch.setenv("RF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # which a benchmark sets
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_prints_and_writes_its_figures(
    name: str, tmp_path: Path, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = run_command("bench", name, *RUNS[name], "--output", str(tmp_path), "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document == json.loads((tmp_path / f"{name}.json").read_text())
    assert (document["benchmark"], document["command"].partition("rf bench ")[2]) == (
        name,
        " ".join([name, *RUNS[name]]),
    )
    check(name, document["results"])
    assert "<table>" in (tmp_path / f"{name}.html").read_text()


def check(name: str, found: list[dict[str, object]]) -> None:
    if name == "encode":
        assert [(each["context"], each["together"]) for each in found] == [(c, n) for c in (0, 5) for n in (1, 8, 32)]
        assert all(each[part] > 0 for each in found for part in ("before_ms", "inputs_ms", "towers_ms"))  # type: ignore[operator]
    elif name == "fetch":
        assert [each["store"] for each in found] == ["sqlite"] * 3
        assert found[0]["ratio"] == 1.0
        assert all(0 < each["p50_ms"] <= each["p99_ms"] for each in found)  # type: ignore[operator]
    else:
        (size,) = found
        filters = size["filters"]
        assert isinstance(filters, list)
        assert [(each["kind"], each["share"]) for each in filters] == [
            (kind, share) for kind in ("independent", "price", "topics") for share in (0.5, 0.1, 0.01, 0.001)
        ]
        assert all(each["exact"]["recall"] == each["whole"]["recall"] == 1.0 for each in filters)
        assert all(each["index"] is None for each in filters if each["share"] < 0.01)
