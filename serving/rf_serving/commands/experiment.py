"""``rf experiment``: proof that a bundle is better, from what was shown and what users did."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rf_platform.cli.console import out_console, print_json, say
from rf_platform.cli.options import Json, Note

if TYPE_CHECKING:
    from rf_platform.registry import ExperimentRecord, Registry
    from rf_serving.experiments.off_policy import BundleEstimate
    from rf_serving.experiments.outcomes import OutcomeReport
    from rf_serving.experiments.split_status import Status

app = typer.Typer(no_args_is_help=True, help="Compare bundles by what users do: splits, interleaving, estimates.")

HARM = 3
"""Exit code where an experiment was stopped."""
REFUSED = 3
"""Exit code where an estimate means nothing."""

Name = Annotated[str | None, typer.Argument(help="Experiment; default: the last one.", show_default=False)]
Outcome = Annotated[
    list[str],
    typer.Option("--outcome", help="Type of event that counts, such as purchase. Repeatable.", show_default=False),
]
Value = Annotated[
    str | None,
    typer.Option(
        help="Column of the interactions to sum, such as price; default: events are counted.", show_default=False
    ),
]
Window = Annotated[float, typer.Option(min=0.001, help="Hours after an answer in which events count.")]
Days = Annotated[float, typer.Option(min=0.001, help="Answers of the last so many days.")]


@app.command()
def start(
    bundle: Annotated[str, typer.Argument(help="The challenger; `rf bundles` lists bundles.")],
    outcome: Outcome,
    percent: Annotated[float, typer.Option(help="Percentage of the users that get the challenger.")] = 10.0,
    value: Value = None,
    window: Window = 24.0,
    margin: Annotated[float, typer.Option(help="Relative difference that does not matter to you.")] = 0.01,
    users: Annotated[
        int, typer.Option(help="Number of users that you expect: intervals are narrowest there, and valid at all.")
    ] = 10_000,
    only_shown: Annotated[
        bool, typer.Option("--only-shown", help="Count only events on items that an answer had shown.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Name of the experiment; default: BUNDLE-1, -2, ...", show_default=False)
    ] = None,
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Give a bundle a part of the users, as `rf promote --percent` does, and record what is measured from now on.

    Users stay with their bundle. Each counts once: what they do within --window hours after their first answer. Answers of an
    experiment are all logged. Look as often as you like: the intervals of `rf experiment status` are always valid.

    The experiment ends by `rf experiment stop`, by `rf promote` (the challenger takes over, for example) or `rf rollback`, or by
    `rf experiment check` if it does harm.

    [bold]Examples[/]

        rf experiment start shop-v4-refresh --outcome purchase --percent 10
        rf experiment start shop-v4-refresh --outcome purchase --value price --window 72 --users 50000
    """
    from functools import partial

    from rf_platform.errors import UsageError
    from rf_platform.registry import Registry, features_now, split
    from rf_platform.settings import get_settings
    from rf_serving.deployment.rehearsal import Rehearsal
    from rf_serving.experiments.split_status import ExperimentSettings

    settings, registry = get_settings(), Registry.of()
    wanted = ExperimentSettings(
        outcome=tuple(outcome),
        value=value,
        window_seconds=window * 3600,
        margin=margin,
        users=users,
        only_shown=only_shown,
    )
    taken = {each.name for each in registry.experiments.history()}
    if name in taken:
        raise UsageError(f"there was an experiment '{name}' before; choose another name")
    name = name or next(each for n in range(1, len(taken) + 2) if (each := f"{bundle}-{n}") not in taken)
    rehearsal = Rehearsal(settings)
    features = partial(features_now, settings)
    split(registry, bundle, percent, note=note or f"experiment {name}", current_spec=features, rehearse=rehearsal)
    begun = registry.experiments.start(name, asdict(wanted), note)
    if as_json:
        print_json({**asdict(begun), "metric": wanted.metric})
        return
    say(
        f"experiment {begun.name}: {begun.challenger} answers {begun.percent:g}% of the users beside {begun.control}; "
        f"measured is {wanted.metric}"
    )


@app.command()
def status(name: Name = None, as_json: Json = False) -> None:
    """Show what an experiment has found so far: users, outcomes, guard rails, and a verdict in one sentence.

    Look as often as you like: the intervals contain the truth at all looks together with a probability of 95%.

    [bold]Example[/]

        rf experiment status
    """
    from rf_platform.registry import Registry

    registry = Registry.of()
    _show_status(_status(registry.experiments.get(name)), as_json)


@app.command()
def check(as_json: Json = False) -> None:
    """Stop the running experiment if it does harm, or if its users do not come as they were assigned; made for cron.

    The challenger's users get the served bundle again within seconds. Harm is: the whole interval of the outcome below 0, or of
    latency or degraded answers above what is allowed, or too few items shown.

    [bold]Example[/]

        */5 * * * * rf experiment check --json >> /var/log/rf-experiment.jsonl

    Exit code 0: nothing is running, or it goes on; 3: it was stopped.
    """
    from rf_platform.registry import Registry

    registry = Registry.of()
    running = registry.experiments.running()
    if running is None:
        if as_json:
            print_json({"running": None, "stopped": False})
        else:
            say("no experiment is running")
        return
    found = _status(running)
    stops = found.verdict.finding.stops
    if stops:
        _stop(registry, found, "stopped by rf experiment check")
    _show_status(found, as_json, stopped=stops)
    if stops:
        raise typer.Exit(HARM)


@app.command()
def stop(note: Note = "", as_json: Json = False) -> None:
    """End the running experiment: record its verdict, and give the challenger's users back to the served bundle.

    To let the challenger take over, run `rf promote` with its name afterwards.
    """
    from rf_platform.registry import Registry

    registry = Registry.of()
    running = registry.experiments.running()
    if running is None:
        from rf_platform.errors import UsageError

        raise UsageError("no experiment is running; `rf experiment list` shows those that ended")
    found = _status(running)
    _stop(registry, found, note)
    _show_status(found, as_json, stopped=True)


@app.command("list")
def list_experiments(as_json: Json = False) -> None:
    """List all experiments, the newest first, with their verdicts."""
    from rich.markup import escape
    from rich.table import Table

    from rf_platform.registry import Registry

    found = Registry.of().experiments.history()[::-1]
    if as_json:
        print_json([asdict(each) for each in found])
        return
    if not found:
        say("there was no experiment yet; begin one by `rf experiment start`")
        return
    table = Table("experiment", "started (UTC)", "ended (UTC)", "finding", "verdict")
    for each in found:
        ended = f"{each.ended_at:%Y-%m-%d %H:%M}" if each.ended_at else "running"
        table.add_row(
            each.name,
            f"{each.started_at:%Y-%m-%d %H:%M}",
            ended,
            each.finding or "",
            escape(each.sentence or each.note),
        )
    out_console().print(table)


@app.command()
def report(
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="bundle, policy_version, placement, place, source or team. Repeatable.",
            show_default="bundle, placement",
        ),
    ] = None,
    value: Value = None,
    window: Window = 24.0,
    days: Days = 28.0,
    as_json: Json = False,
) -> None:
    """Show what came of what was shown: answers, impressions, and each type of event that followed.

    An event is credited to the answer that it names (`request_id`), else to the latest one within --window hours that had shown
    the item to the user.

    [bold]Examples[/]

        rf experiment report
        rf experiment report --by bundle --by place --value price
    """
    from time import time

    from rf_platform.settings import get_settings
    from rf_serving.experiments.answers import logged_answers
    from rf_serving.experiments.outcomes import outcomes
    from rf_serving.experiments.outcomes import report as summed

    settings, since = get_settings(), int((time() - days * 86_400) * 1e6)
    answers = logged_answers(settings, since)
    with outcomes(settings, answers, window_us=int(window * 3600e6), since_us=since, value=value) as db:
        found = summed(db, by or ["bundle", "placement"])
    if as_json:
        print_json(asdict(found))
    else:
        _show_report(found, value)


@app.command()
def estimate(
    bundle: Annotated[str, typer.Argument(help="The bundle; `rf bundles` lists them.")],
    outcome: Outcome,
    placement: Annotated[
        str,
        typer.Option(help="Placement with exploration; default: the one that most answers have.", show_default=False),
    ] = "",
    window: Window = 24.0,
    days: Days = 28.0,
    as_json: Json = False,
) -> None:
    """Estimate what a bundle would earn, before any user sees it, from the items that exploration has drawn.

    For each logged answer the bundle ranks the catalog by the features as they were read then. An item that it would show, and
    that was drawn at random, is evidence about it (inverse propensity scores, self-normalised, doubly robust). The served
    bundle is estimated in the same way, and the two are compared on the same draws.

    Refused with the reason, where it is not defined: no exploration, or draws that could not show what the bundle shows.

    [bold]Example[/]

        rf experiment estimate shop-v4-refresh --outcome purchase

    Exit code 3: the estimate is refused.
    """
    from rf_platform.registry import Registry
    from rf_platform.settings import get_settings
    from rf_serving.experiments.off_policy import estimate_bundle

    found = estimate_bundle(
        get_settings(),
        Registry.of(),
        bundle,
        outcome=tuple(outcome),
        placement=placement,
        window_seconds=window * 3600,
        days=days,
    )
    if as_json:
        print_json(found.to_dict())
    else:
        _show_estimate(found)
    if found.refused:
        raise typer.Exit(REFUSED)


def _status(experiment: "ExperimentRecord") -> "Status":
    from rf_platform.settings import get_settings
    from rf_serving.experiments.split_status import logged_status

    return logged_status(get_settings(), experiment)


def _stop(registry: "Registry", found: "Status", note: str) -> None:
    registry.experiments.stop(found.verdict.finding.value, found.verdict.sentence, note)


def _show_status(found: "Status", as_json: bool, *, stopped: bool = False) -> None:
    if as_json:
        print_json({**found.to_dict(), "stopped": stopped})
        return
    from rich.table import Table

    experiment = found.experiment
    table = Table("", "bundle", "users", "complete", found.metric)
    for role, bundle, exposed, complete, mean in zip(
        ("served", "challenger"),
        (experiment.control, experiment.challenger),
        found.exposed,
        found.complete,
        found.means,
        strict=True,
    ):
        table.add_row(role, bundle, f"{exposed:,}", f"{complete:,}", f"{mean:.5g}" if complete else "")
    out_console().print(table)
    for line in _lines(found):
        say(line)
    if not experiment.running:
        say(f"it ended {experiment.ended_at:%Y-%m-%d %H:%M} UTC: {experiment.sentence}")
    else:
        say(found.verdict.sentence)
    if stopped:
        say(f"stopped: {experiment.control} answers all users again")


def _lines(found: "Status") -> list[str]:
    lines = [f"sample ratio: p = {found.ratio.p_value:.3g}{', a mismatch' if found.ratio.mismatch else ''}"]
    if found.difference is not None:
        change = found.difference
        cuped = (
            f"; the users' past takes away {found.explained:.0%} of the variance" if found.explained >= 0.005 else ""
        )
        lines.append(f"difference {change.value:+.4g} [{change.low:+.4g}, {change.high:+.4g}], always valid{cuped}")
    lines += [each.said for each in found.rails]
    if found.coverage is not None:
        lines.append(found.coverage.said)
    if found.preference is not None:
        liked = found.preference
        by = f"{liked.value:+.3f} [{liked.low:+.3f}, {liked.high:+.3f}]"
        lines.append(f"interleaved: {found.preferring:,} users prefer the challenger by {by}, of -1 to 1")
    if found.switched:
        lines.append(f"{found.switched:,} users had answers of both bundles, and count for their first")
    return lines


def _show_report(found: "OutcomeReport", value: str | None) -> None:
    from rich.table import Table

    if not found.rows:
        say("no answers are logged in this time; see docs/experiments.md")
        return
    columns = [*found.by, "answers", "impressions", *found.types, *([value] if value else [])]
    table = Table(*columns)
    for row in found.rows:
        counts = [
            f"{count:,} ({count / row['impressions']:.2%})" if count else "0" for count in row["outcomes"].values()
        ]
        amount = [f"{row['value']:,.2f}"] if value else []
        table.add_row(
            *(str(row[key]) for key in found.by), f"{row['answers']:,}", f"{row['impressions']:,}", *counts, *amount
        )
    out_console().print(table)
    say(f"{found.credited:,} of {found.events:,} events followed an answer that had shown their item")


def _show_estimate(found: "BundleEstimate") -> None:
    from rich.table import Table

    say(
        f"{found.answers:,} answers of {found.users:,} users at placement '{found.placement}', {found.drawn:,} drawn items, "
        f"{found.outcomes:,} outcomes on them"
    )
    table = Table("", "bundle", "IPS", "SNIPS", "doubly robust", "effective draws", "could be drawn")
    for role, name, part in (
        ("challenger", found.bundle, found.challenger),
        ("served", found.served_name, found.served),
    ):
        if part is not None:
            cells = [_cell(each) for each in (part.ips, part.snips, part.dr)]
            table.add_row(role, name, *cells, f"{part.effective:,.0f}", f"{part.support.value:.0%}")
    if table.row_count:
        out_console().print(table)
    say(found.sentence)


def _cell(interval: Any) -> str:
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
