"""``rf report``."""

from pathlib import Path
from typing import Annotated

import typer

from rf_platform.cli.console import print_json, say
from rf_platform.cli.options import Json, RunName
from rf_platform.settings import get_settings

app = typer.Typer()


@app.command()
def report(
    run: RunName = None,
    output: Annotated[
        Path | None,
        typer.Option(help="HTML file to write; default: report.html in the run's directory.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a run's report: one HTML page that works offline, and its charts as PNG files beside it.

    Curves, what `rf evaluate` found on the test split (metrics with intervals, warm and cold targets, the index, segments,
    reach of the catalog), a map of the item vectors, dataset, model size and settings. Works for a run in any state: what is
    missing is named on the page.
    """
    from rf_training.report import collect, write_page
    from rf_training.run import use_threads

    settings = get_settings()
    use_threads(settings)
    found = collect(settings, run)
    path = output or found.run.path / "report.html"
    images = write_page(found, path)
    if as_json:
        print_json({**found.to_dict(), "page": str(path), "images": [str(image) for image in images]})
        return
    for sentence in dict.fromkeys(found.missing.values()):
        say(sentence)
    say(f"report of run {found.run.name}: {path}, and {len(images)} charts as PNG files beside it")
