"""Documents are what code and result files give: ``infra/check_docs.py``."""

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "infra")
    return import_module("check_docs")


@pytest.fixture
def tables(check: Any) -> Any:
    return import_module("doc_tables")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the documents, beside the code."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    for name in (
        "LICENSE",
        "SECURITY.md",
        "infra",
        "api",
        "console",
        "examples",
        "protos",
        "serving",
        "training",
        "platform",
        "feature_repo",
        "tests",
    ):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def faults(check: Any, root: Path) -> list[str]:
    found: list[str] = check.documents(root)[1]
    return found


def test_the_documents_are_what_code_and_results_give(check: Any) -> None:
    right, faulty = check.documents()
    assert faulty == []
    assert [name for name, text in right.items() if (ROOT / name).read_text() != text] == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("README.md", "| MovieLens-1M | .428 / .213 |", "| MovieLens-1M | .430 / .213 |"),
        ("docs/evaluation.md", ".4278 / .2133", ".4279 / .2133"),
        ("docs/operations.md", "| `rf_shed_requests_total` | counter |", "| `rf_shed_requests_total` | gauge |"),
        ("docs/commands.md", "| `--port` | 50051 |", "| `--port` | 50052 |"),
        ("docs/architecture.md", "| `catalog/compaction/` |", "| `catalog/compactions/` |"),
        ("docs/serving.md", "| DATA_LOSS |", "| LOST |"),
        ("docs/registry.md", "| `rf_runs` |", "| `rf_run` |"),
        ("docs/data.md", "[← Tutorial](tutorial.md)", "[← Serving](serving.md)"),
        ("docs/pictures/data-flow.svg", "rf train", "rf learn"),
    ],
)
def test_what_is_changed_by_hand_is_noticed_and_corrected(
    check: Any, copy: Path, name: str, old: str, new: str
) -> None:
    before = (copy / name).read_text()
    replace(copy / name, old, new)
    right, _ = check.documents(copy)
    assert [each for each, text in right.items() if (copy / each).read_text() != text] == [name]
    assert right[name] == before


def test_lines_between_marks(check: Any) -> None:
    assert (
        check.with_lines("a\n<!-- t -->\nold\n<!-- /t -->\nb\n", "t", ["new"]) == "a\n<!-- t -->\nnew\n<!-- /t -->\nb\n"
    )


def test_a_page_outside_the_order_and_one_that_is_gone(check: Any, copy: Path) -> None:
    (copy / "docs" / "novel.md").write_text("# Novel\n")
    assert faults(check, copy) == ["docs/novel.md is not in the reading order (PAGES)"]
    (copy / "docs" / "novel.md").rename(copy / "docs" / "data.md")
    (copy / "docs" / "filters.md").unlink()
    assert faults(check, copy)[0] == "docs/filters.md is in the reading order (PAGES) and does not exist"


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("[x](gone.md)", "gone.md is no file"),
        ("[x](data.md#gone)", "data.md#gone is no heading"),
        ("[x](#gone)", "#gone is no heading"),
        ("![x](pictures/gone.svg)", "pictures/gone.svg is no file"),
        ('<img src="gone.png">', "gone.png is no file"),
    ],
)
def test_a_dead_link_is_named(check: Any, copy: Path, link: str, fault: str) -> None:
    replace(copy / "docs" / "filters.md", "\n\n", f"\n\n{link}\n\n")
    assert faults(check, copy) == [f"docs/filters.md: {fault}"]


@pytest.mark.parametrize("text", ["`[x](gone.md)`", "[x](https://example.org/gone)", "\n```\n[x](gone.md)\n```\n"])
def test_what_is_no_relative_link_is_left_alone(check: Any, copy: Path, text: str) -> None:
    replace(copy / "docs" / "filters.md", "\n\n", f"\n\n{text}\n\n")
    assert faults(check, copy) == []


def test_marks_that_are_gone_are_named(check: Any, copy: Path) -> None:
    replace(copy / "README.md", "<!-- accuracy -->", "")
    assert faults(check, copy) == ["README.md: has no marks for the table 'accuracy'"]


def test_a_metric_that_no_listed_object_has_is_named(
    check: Any, tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "new.py").write_text('Counter(\n    "rf_new", "Something.", registry=registry\n)\n')
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    with pytest.raises(LookupError, match=r"serving/new\.py: metrics \['rf_new'\]"):
        tables.metrics()


def test_a_new_result_is_in_both_pages(
    check: Any, tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = json.loads(tables.ACCURACY.read_text())
    results["models"][0]["excluded"] = {"recall@20": 0.5, "ndcg@20": 0.25, "interval": [0.49, 0.51]}
    (tmp_path / "accuracy.json").write_text(json.dumps(results))
    monkeypatch.setattr(tables, "ACCURACY", tmp_path / "accuracy.json")
    assert "| MovieLens-1M | .500 / .250 |" in tables.accuracy()[2]
    assert "| .5000 / .2500 | .4900 to .5100 |" in tables.models()[2]


def test_anchors_are_those_of_github(check: Any) -> None:
    text = "# Two words\n## `rf index build [RUN]`\n## Two words\n### What's new, and *why*\n```\n# no heading\n```\n"
    assert check.anchors(text) == {"two-words", "rf-index-build-run", "two-words-1", "whats-new-and-why"}


def test_the_table_of_roles_by_hand(tables: Any) -> None:
    assert tables.roles() == [
        "| role | may call |",
        "|---|---|",
        "| read | `Retrieve`, `SimilarItems`, `GetItems`, `ListItems`, reflection |",
        "| write | also `UpsertItems`, `DeleteItems`, `RecordEvents` |",
        "| admin | also `GetDeployment` |",
    ]


def test_a_default_in_a_table_written_by_hand_is_held_against_the_command(check: Any, copy: Path) -> None:
    page = copy / "docs" / "operations.md"
    replace(page, "| `--port` | 50051 |", "| `--port` | 50052 |")
    replace(page, "| `--max-session` | 10,000 interactions |", "| `--max-session` | 1,000 interactions |")
    replace(page, "| `--batch-most` |", "| `--batch-max` |")
    replace(copy / "docs" / "serving.md", "<!-- defaults: rf query -->\n", "<!-- defaults: rf query -->\n\n")
    assert faults(check, copy) == [
        "docs/operations.md: rf serve --port has the default 50051, not 50052",
        "docs/operations.md: rf serve --max-session has the default 10000, not 1,000 interactions",
        "docs/operations.md: rf serve has no option --batch-max",
        "docs/serving.md: a mark of defaults has no table in the line after it",
    ]


@pytest.mark.parametrize(
    ("cell", "default", "told"),
    [
        ("", "", True),
        ("no TLS", "", True),
        ("77", "", False),
        ("`RF_X1`, else none", "off", True),
        ("`RF_RERANK_CANDIDATES`, else 1000", "", True),
        ("`RF_RERANK_CANDIDATES`, else 100", "", False),
        ("5 s", "5", True),
        ("50 s", "5", False),
        ("10,000 interactions", "10000", True),
        ("hnsw,ivf-pq", "ivf-pq", True),
    ],
)
def test_what_a_cell_says_of_a_default(tables: Any, cell: str, default: str, told: bool) -> None:
    assert tables._tells(cell, default) is told


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("docs/a.md", "A server\nwhose key is gone."),
        ("platform/a.py", '"""Where an index lies."""\n'),
        ("platform/a.py", 'class A:\n    """The process that won, and\n    whoever follows it."""\n'),
        ("platform/a.py", "x = 1\n'''Rows whose key is null.'''\n"),
        ("platform/a.py", "x = 1  # the writer\n       # whose lock is held\n"),
        ("protos/a.proto", "// The server\n// who answers.\nmessage A {}\n"),
    ],
)
def test_prose_that_asks_or_takes_a_thing_for_a_person_is_named(
    check: Any, tmp_path: Path, name: str, content: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text(content)
    found = list(check.faults_of_prose(tmp_path))
    assert len(found) == 1
    assert found[0].startswith(
        f"{name}:{content.count(chr(10), 0, content.find('who')) + 1 if 'who' in content else 1}:"
    )


def test_people_and_code_are_no_faults_of_prose(check: Any, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("Users, who pay, and operators\nwhose shop is `who`.\n```\nwho\n```\n")
    assert list(check.faults_of_prose(tmp_path)) == []


def test_a_folder_without_words_is_a_fault(tables: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(tables.OTHER_FOLDERS, "report/template")
    with pytest.raises(LookupError, match="no words for the folder training/rf_training/report/template"):
        tables.folders("training/rf_training")


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("[`RetrievalFormers`](../training/rf_training/model/retrievalformer.py)", "does not define RetrievalFormers"),
        ("[`RetrievalFormer.warp`](../training/rf_training/model/retrievalformer.py)", "does not define"),
        ("see `retrieval/reranker.py`", "retrieval/reranker.py is no file"),
        ("| module of `rf_training` | holds |\n|---|---|\n| `lost.py` | nothing |", "rf_training has no lost.py"),
    ],
)
def test_names_and_paths_of_code_in_pages_are_there(check: Any, copy: Path, words: str, fault: str) -> None:
    replace(copy / "docs" / "glossary.md", "## Model\n", f"{words}\n\n## Model\n")
    (found,) = faults(check, copy)
    assert fault in found
