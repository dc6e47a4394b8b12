"""A benchmark's results as an HTML page that needs nothing but itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rf_training.report.drawing import INKS, Chart


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of texts."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Page:
    """What is on the page."""

    title: str
    lead: str
    """What was measured, in a sentence or two."""
    facts: Mapping[str, str]
    """Name -> value: the machine, the sizes."""
    tables: Sequence[Table]
    charts: Sequence[Chart]


def write_page(page: Page, path: Path) -> list[Path]:
    """Write the page to ``path`` and its charts beside it, as ``<stem>-<chart>.png``; returns all files."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("rf_bench", "template"), PackageLoader("rf_training.report", "template")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["svg"] = Markup
    path.write_text(environment.get_template("bench.html").render(page=page, inks=INKS), encoding="utf-8")
    files = [path]
    for chart in page.charts:
        files.append(path.with_name(f"{path.stem}-{chart.name}.png"))
        chart.save(files[-1])
    return files
