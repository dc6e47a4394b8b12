"""The page of a real run, read back as a browser would."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rf_platform.cli import main
from rf_platform.cli.console import err_console, out_console
from rf_platform.registry import Registry
from rf_platform.settings import Settings, get_settings
from rf_training.baselines import Popularity
from rf_training.evaluation import EventSequences, Split, evaluate
from rf_training.recipes import get_recipe
from rf_training.report import RunReport, collect, write_page

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Elements, ids and text of a page; an element that is closed wrongly is an error."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.texts.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(text for text in self.texts if text)


@pytest.fixture(scope="module")
def full(workspace: Settings) -> RunReport:
    return collect(workspace, "full")


@pytest.fixture(scope="module")
def written(full: RunReport, tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, list[Path]]:
    path = tmp_path_factory.mktemp("page") / "deep" / "report.html"
    images = write_page(full, path)
    return Page(path), images


def test_nothing_is_missing(full: RunReport) -> None:
    assert full.missing == {}


def test_every_section_has_its_content(written: tuple[Page, list[Path]]) -> None:
    page, _ = written
    charts = {attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"}
    assert charts == {
        "Test Recall@20",
        "Test NDCG@20",
        "By popularity of the item",
        "By length of the history",
        "Loss",
        "Alignment",
        "Uniformity",
        "Gradient norm",
        "Learning rate",
        "Validation Recall",
        "Validation NDCG",
        "Validation MRR",
        "Item vectors by genres",
    }
    for expected in (
        "24 users with one held-out item each, ranked among all 40 items",
        "Seen items excluded",
        "Paired differences from popularity",
        "The weights that are evaluated are a running average over the steps (decay 0.995).",
        "coverage@20",
        "RetrievalFormer (first)",
        "Through the index",
        "11 to 20",
        "embedding tables",
        "hash of the feature spec",
        "settings differ from the recipe default",
    ):
        assert expected in page.text


def test_example_users_are_shown_with_titles(full: RunReport, written: tuple[Page, list[Path]]) -> None:
    assert 1 < len(full.examples) <= 5
    lengths = [user.events for user in full.examples]
    assert lengths == sorted(lengths)
    assert full.dataset is not None
    for user in full.examples:
        assert len(user.best) == 10
        assert not {each.item for each in user.best} & {each.item for each in user.latest}
        hits = [place for place, each in enumerate(user.best, 1) if each.hit]
        assert hits == ([user.rank] if user.rank <= 10 else [])
        assert user.target.item in {str(each) for each in full.dataset.item_ids}
        assert all(each.title in written[0].text for each in (*user.latest, *user.best, user.target))
    assert full.to_dict()["users"][0]["best"][0]["title"] == full.examples[0].best[0].title


def test_figures_are_those_of_the_evaluation(full: RunReport, written: tuple[Page, list[Path]]) -> None:
    assert full.test is not None
    assert len(full.test["results"][0]["metrics"]) == 14
    for row in full.test["results"]:
        for value in row["metrics"].values():
            assert f"{value['value']:.4f}" in written[0].texts
            assert f"{value['low']:.4f} to {value['high']:.4f}" in written[0].texts


def test_segments_add_up_to_the_evaluation(full: RunReport) -> None:
    assert full.test is not None
    whole = {r["scorer"]: r["metrics"]["ndcg@20"]["value"] for r in full.test["results"] if r["seen"] == "excluded"}
    for segments in full.test["segments"].values():
        assert sum(segment["cases"] for segment in segments) == 24
        for scorer, value in whole.items():
            mean = sum(s["cases"] * s["metrics"][scorer]["ndcg@20"]["value"] for s in segments) / 24
            assert mean == pytest.approx(value)


def test_the_model_stands_at_the_top_and_not_its_index(full: RunReport, written: tuple[Page, list[Path]]) -> None:
    assert full.test is not None
    assert full.scorers == ["popularity", "item-knn", "RetrievalFormer"]
    metrics = {r["scorer"]: r["metrics"]["recall@20"] for r in full.test["results"] if r["seen"] == "excluded"}
    assert metrics["RetrievalFormer"]["value"] != metrics["RetrievalFormer (first)"]["value"]  # else nothing is shown
    text = written[0].text
    assert f"Recall@20, test {metrics['RetrievalFormer']['value']:.4f}" in text
    for each in full.test["approximations"]:
        assert f"{each['seen']} {each['exact_value']:.4f} {each['value']:.4f}" in text
        assert f"{each['kept']:.2%}" in text


def test_warm_and_cold_targets_stand_apart(workspace: Settings, tmp_path: Path) -> None:
    """A test target that training never met, in the evaluation of a run whose dataset has none."""
    without = collect(workspace, "full")
    assert without.test is not None
    assert without.test["warm_cold"] is None
    users = [[u % 7, (u + 1) % 7, (u + 2) % 7, (u + 3) % 7 if u % 2 else 30 + u] for u in range(8)]
    scorers = [Popularity(np.arange(40)), Popularity(np.arange(40)[::-1].copy())]
    scorers[1].name = "RetrievalFormer"
    test = evaluate(EventSequences.leave_one_out(users), scorers, n_items=40, split=Split.TEST, seed=0).to_dict()
    report = replace(without, run=replace(without.run, metrics={"test": test}))
    images = write_page(report, tmp_path / "cold.html")
    page = Page(tmp_path / "cold.html")
    assert {"cold-warm-cold-recall-20.png", "cold-warm-cold-ndcg-20.png"} <= {image.name for image in images}
    for expected in (
        "4 of the 8 targets are cold : items without any training event, of which the catalog has 33",
        "4 warm targets among all items, seen items kept",
        "4 cold targets among all items, seen items excluded",
        "4 cold targets among cold items, seen items excluded",
        "Harmonic mean of warm and cold Recall@20",
    ):
        assert expected in page.text
    among = test["warm_cold"]["groups"][2]["results"][0]["metrics"]["auc"]["value"]
    assert f"{among:.4f}" in page.texts
    write_page(without, tmp_path / "warm.html")
    assert "warm-cold" not in (tmp_path / "warm.html").read_text()


def test_an_evaluation_of_an_older_version_is_done_again(workspace: Settings, tmp_path: Path) -> None:
    report = collect(workspace, "full")
    report = replace(report, run=replace(report.run, metrics={"test": {"results": []}}))
    assert report.test is None
    write_page(report, tmp_path / "old.html")


def test_changed_settings_are_marked(full: RunReport, written: tuple[Page, list[Path]]) -> None:
    changed = [setting.name for setting in full.settings if setting.changed]
    assert {"model.dim", "model.layers", "train.epochs"} <= set(changed)
    assert f"recipe: {get_recipe('default').model.dim}" in written[0].texts
    marked = [attributes for tag, attributes in written[0].tags if tag == "tr" and attributes.get("class") == "changed"]
    assert len(marked) == len(changed)


def test_nothing_is_loaded_from_elsewhere(written: tuple[Page, list[Path]]) -> None:
    page, _ = written
    assert not {"script", "link", "img", "iframe", "object", "image", "foreignobject"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "data", "srcset"):
                assert value is not None
                assert value.startswith("#")
            assert not re.search(r"url\((?!#)|https?:", value or "")
    assert "@import" not in page.source
    assert "url(http" not in page.source


def test_ids_are_unique_and_references_resolve(written: tuple[Page, list[Path]]) -> None:
    page, _ = written
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = re.findall(r'(?:href="#|url\(#)([^")]+)', page.source)
    assert references
    assert set(references) <= set(ids)


def test_titles_are_text_and_nothing_else(written: tuple[Page, list[Path]]) -> None:
    page, _ = written
    assert '<script src="https://evil…' in page.texts
    assert "七人の侍" in page.texts
    assert "$9.99 & $1" in page.texts
    assert '"quoted" id="#2a6fbb"' in page.texts


def test_images_lie_beside_the_page(written: tuple[Page, list[Path]]) -> None:
    page, images = written
    assert len(images) == sum(tag == "svg" for tag, _ in page.tags)
    for path in images:
        assert path.name.startswith("report-")
        with Image.open(BytesIO(path.read_bytes())) as image:
            image.verify()
            assert image.format == "PNG"
            assert min(image.size) > 200


def test_the_same_run_gives_the_same_page(full: RunReport, written: tuple[Page, list[Path]], tmp_path: Path) -> None:
    images = write_page(full, tmp_path / "report.html")
    date = r"on \d+ \w+ \d+, \d\d:\d\d UTC"
    assert re.sub(date, "", (tmp_path / "report.html").read_text()) == re.sub(date, "", written[0].source)
    assert [image.read_bytes() for image in images] == [image.read_bytes() for image in written[1]]


def test_a_run_with_little_to_show(workspace: Settings, tmp_path: Path) -> None:
    """Not evaluated, no average of the weights, no title and no categorical feature of an item."""
    report = collect(workspace, "bare")
    write_page(report, tmp_path / "bare.html")
    page = Page(tmp_path / "bare.html")
    assert list(report.missing) == ["test"]
    assert "rf evaluate bare" in page.texts
    assert "the running average is off (train.ema_decay=0)" in page.text
    assert "no display field for items" in page.text
    assert "No item feature is categorical" in page.text


@pytest.fixture
def copied(workspace: Settings, tmp_path: Path) -> Settings:
    """The workspace again, to break."""
    shutil.copytree(workspace.workspace.root, tmp_path / "home")
    return Settings(home=tmp_path / "home", threads=1)


def test_an_unfinished_run_without_files(copied: Settings) -> None:
    registry = Registry.of(copied)
    registry.start_run(
        "early",
        dataset="full-v1",
        recipe="forgotten",
        config=registry.run("full").config,
        path=copied.workspace.runs / "early",
    )
    registry.fail_run("early", "the loss is nan <b>")
    report = collect(copied)
    write_page(report, copied.workspace.root / "early.html")
    page = Page(copied.workspace.root / "early.html")
    assert set(report.missing) == {"settings", "training", "validation", "model", "test", "map", "users"}
    assert not [tag for tag, _ in page.tags if tag == "svg"]
    assert "failed : the loss is nan <b>" in page.text
    assert not [tag for tag, _ in page.tags if tag == "b"]
    assert "No recipe is named 'forgotten' any more" in page.text
    assert "has not finished its first epoch" in page.text
    assert "full-v1" in page.text  # what the registry knows of the dataset


def test_a_run_whose_dataset_is_gone(copied: Settings) -> None:
    shutil.rmtree(copied.workspace.datasets / "full-v1")
    report = collect(copied, "full")
    write_page(report, copied.workspace.root / "gone.html")
    assert set(report.missing) == {"dataset", "map", "users"}
    assert report.test is not None  # what was evaluated stays with the run
    assert "no dataset at" in Page(copied.workspace.root / "gone.html").text
    assert report.size is not None


@pytest.fixture
def home(workspace: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("RF_HOME", str(workspace.workspace.root))
    monkeypatch.setenv("RF_THREADS", "1")
    for cached in (get_settings, out_console, err_console):
        cached.cache_clear()
    yield workspace.workspace.root
    for cached in (get_settings, out_console, err_console):
        cached.cache_clear()


def test_the_command(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["rf", "report", "full", "--json"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code in (0, None)
    document = json.loads(capsys.readouterr().out)
    assert document["page"] == str(home / "runs" / "full" / "report.html")
    assert Path(document["page"]).is_file()
    assert all(Path(image).is_file() for image in document["images"])
    assert document["changed_settings"]["model.dim"] == 8
    assert document["test"]["reach"]["rows"][-1]["scorer"] == "test targets"


def test_the_command_without_such_a_run(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rf", "report", "nobody"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 2
    assert "nobody" in capsys.readouterr().err
