"""``rf skew``: hold what was served against what training sees."""

from pathlib import Path
from typing import Annotated

import typer

from rf_platform.cli.options import DatasetName, Json

app = typer.Typer(no_args_is_help=True, help="Hold what was served against what training sees.")


@app.command()
def replay(
    hours: Annotated[float, typer.Option(min=0.001, help="Only requests of the last hours.")] = 24.0,
    most: Annotated[int, typer.Option(min=1, help="Most requests; of more, some are drawn at random.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of that draw.")] = 0,
    bundle: Annotated[
        str | None, typer.Option(help="Only answers of this bundle; default: of all.", show_default=False)
    ] = None,
    grace_seconds: Annotated[
        float,
        typer.Option(min=0, help="A value that was true this long ago is accepted: events and loads take a moment."),
    ] = 60.0,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="Largest accepted share of differences: SHARE for all fields, or FIELD=SHARE; repeatable. Default: 0.",
            show_default=False,
        ),
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="Examples of each field.")] = 3,
    as_json: Json = False,
) -> None:
    """Rebuild, for logged requests, the row that training would see at that microsecond, and compare it field by field.

    The row is made by the dataset builder, from the tables and the event log of the workspace. Each value that was served is
    equal, stale (it was true earlier), early (it is true only later, so training leaks), never true, missing, or encoded
    differently by the bundle than by its training data. Servers log answers with `rf serve --log-share`.

    [bold]Examples[/]

        rf skew replay
        rf skew replay --hours 2 --allow 0.01 --allow user_profile__zip_area=0.1 --json

    Exit code 1 if a field differs in more requests than accepted. docs/skew.md reads a table with you.
    """
    from rf_platform.cli.console import out_console, print_json, say
    from rf_platform.settings import get_settings
    from rf_platform.skew.gate import parse_allowed, replay_workspace
    from rf_platform.skew.replay import ReplayOptions
    from rf_platform.skew.report import report_table

    share, by_field = parse_allowed(allow or (), "--allow")
    options = ReplayOptions(
        hours=hours,
        most=most,
        seed=seed,
        bundle=bundle,
        grace_seconds=grace_seconds,
        allowed=share,
        allowed_by_field=by_field,
        examples=examples,
    )
    report = replay_workspace(get_settings(), options)
    if as_json:
        print_json(report.to_dict())
    else:
        out_console().print(report_table(report))
        for each in report.fields:
            if each.detail:
                say(f"{each.field}: {each.detail}")
            for one in each.examples:
                by = f" by {one.seconds:.3f} s" if one.seconds else ""
                say(
                    f"{each.field}: request {one.request_id} of user {one.user_id} at {one.time}: {one.status}{by}: served "
                    f"{one.served}, training sees {one.truth}"
                )
        for note in report.notes:
            say(f"note: {note}")
        left_out = f"; {report.sessions:,} of sessions and {report.unread:,} without features left out"
        say(report.summary() + left_out)
    if report.failed:
        raise typer.Exit(1)


@app.command()
def monitor(
    hours: Annotated[float, typer.Option(min=0.001, help="Only answers of the last hours.")] = 24.0,
    most: Annotated[int, typer.Option(min=100, help="Most answers; of more, some are drawn at random.")] = 20_000,
    users: Annotated[
        int, typer.Option(min=0, help="Users that are read from the online store; 0: it is not asked.")
    ] = 500,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    dataset: DatasetName = None,
    prometheus: Annotated[
        Path | None,
        typer.Option(
            help="Also write the figures to this file, for the textfile collector of Prometheus' node_exporter.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare the distributions of what was served, and of what the online store has, with the training split.

    For each feature: the population stability index and the Jensen-Shannon distance, the share of missing values, the share that
    the vocabulary does not know; the age of rows when they were read, the length of histories; scores, popularity and coverage of
    the items of answers. A limit is what one in a hundred samples of as many users of the training split exceeds; ages and
    figures of items have limits from their own past, the results that are kept of every call.

    [bold]Examples[/]

        rf skew monitor
        rf skew monitor --hours 1 --prometheus /var/lib/node_exporter/rf.prom

    Exit code 1 if a figure lies beyond its limit.
    """
    from rf_platform.cli.console import out_console, print_json, say
    from rf_platform.dataset.run_dataset import open_dataset
    from rf_platform.features.store import open_store
    from rf_platform.files import check_output_file, replace_text
    from rf_platform.registry import Registry
    from rf_platform.serving_log import ServingParts
    from rf_platform.settings import get_settings
    from rf_platform.skew import monitors
    from rf_platform.skew.results import SkewResults

    check_output_file("--prometheus", prometheus)
    settings = get_settings()
    options = monitors.MonitorOptions(hours=hours, most=most, users=users, seed=seed)
    opened = open_dataset(Registry.of(settings), dataset)
    store = open_store(settings) if users else None
    report = monitors.monitor(ServingParts(settings.workspace.serving_log), opened, store, options)
    SkewResults(settings.workspace.skew).keep("monitor", report.to_dict())
    if prometheus is not None:
        replace_text(prometheus, monitors.prometheus(report))
    if as_json:
        print_json(report.to_dict())
    else:
        out_console().print(monitors.monitor_table(report))
        of = f"{report.answers:,} answers beside dataset {report.dataset}"
        say(f"{of}: {len(report.over)} of {len(report.gauges)} figures beyond their limits")
    if report.over:
        raise typer.Exit(1)
