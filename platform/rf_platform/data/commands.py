"""``rf data``: import, guess, synth, show, init-repo."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rf_platform.cli.console import out_console, print_json, say, warn
from rf_platform.cli.options import Json
from rf_platform.data.report import ImportReport, columns_table, counts_table, load_report
from rf_platform.files import replace_text
from rf_platform.settings import get_settings

app = typer.Typer(no_args_is_help=True, help="Import interactions, items and users, or make some up.")


@app.command("import")
def import_(
    source: Annotated[str, typer.Argument(help="movielens-100k, movielens-1m, amazon-beauty, amazon-toys, or custom.")],
    path: Annotated[
        Path | None,
        typer.Argument(
            help="Directory or zip archive with the files. Default: for movielens-100k the copy in the package recbole, for "
            "custom the directory of the mapping file.",
            show_default=False,
        ),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(help="For custom: YAML file that says what the columns of your tables mean.", show_default=False),
    ] = None,
    on_error: Annotated[
        str,
        typer.Option(
            metavar="fail|quarantine",
            help="For bad rows: refuse the import and name the first one, or keep them in quarantine.parquet and go on.",
        ),
    ] = "fail",
    replace: Annotated[bool, typer.Option("--replace", help="Replace the tables of another catalog.")] = False,
    as_json: Json = False,
) -> None:
    """Check a data set and write it into the workspace as tables: interactions, items, users.

    Every row is checked: null keys, wrong types, ratings that are NaN or out of range, times in the future, duplicates. Rows read
    are always rows kept plus rows quarantined. If anything fails, the earlier tables stay as they were.

    [bold]Examples[/]

        rf data import movielens-100k
        rf data import movielens-1m ~/Downloads/ml-1m.zip
        rf data import custom --mapping shop.yaml --on-error=quarantine

    [bold]A mapping file[/] (docs/data.md has all of it)

        name: shop
        interactions:
          file: events.csv
          user: customer
          item: sku
          timestamp: at
          event_type: action
        items:
          file: products.parquet
          item: sku
          attributes:
            title: product_name
            price: price
    """
    from rf_platform.data.adapters import Request
    from rf_platform.data.importer import OnError, import_tables
    from rf_platform.errors import UsageError

    if on_error not in list(OnError):
        raise UsageError(f"--on-error={on_error!r} is neither 'fail' nor 'quarantine'")
    settings = get_settings()
    report = import_tables(
        Request(source=source, path=path, mapping=mapping),
        workspace=settings.workspace,
        on_error=OnError(on_error),
        replace=replace,
        threads=settings.threads,
    )
    if as_json:
        print_json(report.to_dict())
        return
    _print_counts(report, settings.workspace.tables)
    step = "features apply" if report.feature_repo else "data init-repo DIR"
    say(f"next: rf {step}")


@app.command()
def synth(
    users: Annotated[int, typer.Option(help="People, each with at least one event.")] = 1_000,
    items: Annotated[int, typer.Option(help="The catalog.")] = 500,
    events: Annotated[int, typer.Option(help="Events in all.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Equal sizes and seed give equal tables, byte for byte.")] = 0,
    browsing: Annotated[
        bool,
        typer.Option(
            "--browsing",
            help="One more table: the category a user opened just before each choice, for the feature service `browsing`.",
        ),
    ] = False,
    behaviours: Annotated[
        bool,
        typer.Option(
            "--behaviours",
            help="Users buy the cheapest style of the categories they view: a planted truth for weights of events and goals.",
        ),
    ] = False,
    shop: Annotated[
        Path | None,
        typer.Option(
            help="Write the exports of a small shop into this new directory instead: CSV files with a mapping, to import.",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the tables of another catalog.")] = False,
    as_json: Json = False,
) -> None:
    """Make up a catalog with the skew of a real one and write it as an import would, with a feature repository to match.

    Popularity follows Zipf's law. Users have tastes, and category, brand, tags and price of an item explain choices, so
    items without any event can be recommended. Events come in sessions, each with a topic; some items enter late. Memory does not
    grow with the number of events, so it serves to try sizes before real data has them.

    [bold]Examples[/]

        rf --home /tmp/small data synth
        rf --home /tmp/large data synth --users 500000 --items 250000 --events 10000000

    [bold]Then[/]

        rf features apply, rf dataset build, rf train
    """
    from time import perf_counter

    from rf_platform.data.synth import SynthOptions, synthesise, write_shop
    from rf_platform.peak_memory import peak_bytes

    if shop is not None:
        files = write_shop(shop, seed)
        if as_json:
            print_json({"files": [str(path) for path in files]})
            return
        for path in files:
            say(str(path))
        say(f"next: rf data import custom {shop} --mapping {files[-1]}")
        return
    start = perf_counter()
    settings = get_settings()
    options = SynthOptions(users=users, items=items, events=events, seed=seed, browsing=browsing, behaviours=behaviours)
    report = synthesise(options, workspace=settings.workspace, replace=replace)
    cost = {"seconds": round(perf_counter() - start, 2), "peak_bytes": peak_bytes()}
    if as_json:
        print_json({**report.to_dict(), **cost})
        return
    _print_counts(report, settings.workspace.tables)
    say(f"made in {cost['seconds']:,} s with at most {cost['peak_bytes'] / 2**20:,.0f} MiB of memory")
    say("next: rf features apply")


@app.command()
def guess(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Your files: a log of events, and what describes items and users."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write the mapping here, with paths beside it; default: standard output.", show_default=False
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the catalog.")] = "shop",
    as_json: Json = False,
) -> None:
    """Draft a mapping for files that nobody has described yet, and say what it is unsure of.

    It reads all of them: delimiter, encoding, decimal comma, forms of times, lists; which file is the log (a user or session, an
    item and a time in each row), and which files describe items or users, told by ids that the log has. Read the draft: it says
    `# unsure` where only you can decide. Nothing is imported.

    [bold]Examples[/]

        rf data guess events.csv products.csv embeddings.parquet --out shop.yaml
        rf data import custom --mapping shop.yaml
    """
    from rf_platform.data.guess import guess_mapping
    from rf_platform.errors import UsageError

    if out is not None and out.exists():
        raise UsageError(f"{out} exists; give --out a new file, so that nothing of yours is overwritten")
    base = (out.absolute().parent if out is not None else Path.cwd()).resolve()
    text, unsure = guess_mapping([_beside(file, base) for file in files], name, base)
    if out is not None:
        replace_text(out, text)
    if as_json:
        print_json({"mapping": text, "unsure": unsure})
        return
    if out is None:
        sys.stdout.write(text)
    for each in unsure:
        warn(f"unsure: {each}")
    if out is not None:
        say(f"wrote {out}; next: read it, then rf data import custom --mapping {out}")


def _beside(file: Path, base: Path) -> Path:
    """Return the path of a file from a directory, where it lies below it."""
    whole = file.absolute().resolve()
    return whole.relative_to(base) if whole.is_relative_to(base) else whole


@app.command()
def show(as_json: Json = False) -> None:
    """Show what is imported: rows by input file, columns and their types, warnings.

    Warns of columns that are probably not what their type says: numbers, dates or truth values read as text, a category as large
    as the table, one value only, texts for people. `rf data init-repo` writes the same as comments.
    """
    from rf_platform.data.suspicions import find_suspicions

    settings = get_settings()
    report = load_report(settings.workspace.tables)
    suspicions = [] if report.feature_repo else find_suspicions(settings.workspace, report)
    if as_json:
        print_json({**report.to_dict(), "suspicions": [asdict(each) for each in suspicions]})
        return
    say(f"{report.name}, imported from {report.path} at {report.imported_at}")
    _print_counts(report, settings.workspace.tables)
    out_console().print(columns_table(report))
    for each in suspicions:
        warn(str(each))


@app.command("init-repo")
def init_repo(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory to create; must be new or empty.")],
    as_json: Json = False,
) -> None:
    """Write a Feast repository for the imported tables: feature_store.yaml and definitions.py, yours to edit.

    Every column of the tables becomes a field with the dtype of its type; comments mark the choices that only you can confirm.
    Point RF_FEATURE_REPO at the directory to use it.
    """
    from rf_platform.data.scaffold import init_repo as write

    written = write(get_settings().workspace, directory.absolute())
    if as_json:
        print_json({"files": [str(path) for path in written]})
        return
    for path in written:
        say(f"wrote {path}")
    say(f"next: read definitions.py, then export RF_FEATURE_REPO={directory.absolute()} and run rf features apply")


def _print_counts(report: ImportReport, tables: Path) -> None:
    if report.inputs:
        out_console().print(counts_table(report))
    counts = report.counts
    say(
        f"{counts['interactions']:,} interactions of {counts['active_users']:,} users, {counts['items']:,} items; "
        f"events from {report.first_event} to {report.last_event}"
    )
    for note in report.notes:
        say(f"note: {note}")
    for warning in report.warnings:
        say(f"warning: {warning}", style="yellow")
    if counts["quarantined"]:
        say(f"bad rows are kept in {tables / 'quarantine.parquet'}")
