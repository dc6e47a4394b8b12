"""``rf refresh``: from new data to a promoted bundle, in one line."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rf_platform.cli.options import SERVER, Json, Skew

app = typer.Typer()

REFUSED = 3
"""Exit code where a gate refuses the candidate."""


@app.command()
def refresh(
    source: Annotated[
        str | None,
        typer.Argument(
            help="What to import, as for `rf data import`; without it the tables stay and only recorded events are new.",
            show_default=False,
        ),
    ] = None,
    path: Annotated[Path | None, typer.Argument(help="Its files, as for `rf data import`.", show_default=False)] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(help="For custom: the mapping file; without a SOURCE custom is meant.", show_default=False),
    ] = None,
    on_error: Annotated[
        str, typer.Option(metavar="fail|quarantine", help="For bad rows, as for `rf data import`.")
    ] = "fail",
    margin: Annotated[
        float,
        typer.Option(
            help="How much worse than the served bundle the new one may be: share of its NDCG@20, by the whole interval."
        ),
    ] = 0.1,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Train anew by this recipe; default: go on from the served bundle, or, if nothing is served, `default`.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one setting, as for `rf train`. Repeatable.", show_default=False),
    ] = None,
    nproc: Annotated[
        int, typer.Option(min=1, help="Processes on this host that train together, as for `rf train`.")
    ] = 1,
    shadow_hours: Annotated[
        float | None,
        typer.Option(
            help="Before the promotion, let the bundle answer a tenth of the requests unseen for so long.",
            show_default=False,
        ),
    ] = None,
    address: Annotated[
        str, typer.Option(help="Server that is asked how the shadow does.", envvar="RF_ADDRESS")
    ] = SERVER,
    percent: Annotated[
        float | None,
        typer.Option(
            help="Before the promotion, give the bundle this percentage of the users, as `rf experiment start`.",
            show_default=False,
        ),
    ] = None,
    outcome: Annotated[
        list[str] | None,
        typer.Option(help="With --percent: type of event that counts. Repeatable.", show_default=False),
    ] = None,
    value: Annotated[
        str | None, typer.Option(help="With --percent: column of the interactions to sum.", show_default=False)
    ] = None,
    window: Annotated[float, typer.Option(help="With --percent: hours after an answer in which events count.")] = 24.0,
    users: Annotated[int, typer.Option(help="With --percent: number of users that you expect.")] = 10_000,
    most_days: Annotated[
        float, typer.Option(help="With --percent: days after which a bundle that has shown nothing is refused.")
    ] = 14.0,
    skew: Skew = None,
    no_promote: Annotated[bool, typer.Option("--no-promote", help="Everything but the promotion.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Bring what is served up to date: import, materialise, build the dataset, train, compare, index and promote.

    If the dataset is unchanged, nothing else is done. The training goes on from the served bundle; then both models rank the
    same held-out items for the same users, and the new one is promoted only if it is not worse by more than --margin, with the
    whole 95% interval of the difference. Servers follow within seconds; `rf rollback` goes back.

    With --skew the last requests are replayed first, before an import rewrites what was true then: what was served has to be
    what training sees (docs/skew.md). With --shadow-hours and --percent the new bundle is tried on real traffic before it is
    promoted. A refresh does not wait for that: it ends (`waiting`), and the same command, run by cron every hour or so, goes on
    with the trial, and takes back what does harm.

    Each step is recorded in `refresh.json` of the workspace, and what an interrupted refresh has done is not done again: the same
    command goes on. Two at once are refused. A bundle that was promoted and rolled back is not promoted again. docs/nightly.md
    has a crontab and a Kubernetes CronJob.

    [bold]Examples[/]

        rf refresh custom --mapping shop.yaml
        rf refresh --margin 0.05 --json
        rf refresh custom --mapping shop.yaml --no-promote
        rf refresh custom --mapping shop.yaml --skew refuse --shadow-hours 2 --percent 10 --outcome purchase

    Exit code 0: promoted, unchanged, ready, or waiting for the trial; 1: a step failed, or another refresh is at work; 2: wrong
    arguments or settings; 3: refused by a gate or in the trial.
    """
    from functools import partial

    from rf_platform.cli.console import out_console, print_json, say
    from rf_platform.data.adapters import Request
    from rf_platform.data.importer import OnError
    from rf_platform.errors import UsageError
    from rf_platform.registry import features_now
    from rf_platform.settings import get_settings
    from rf_serving.client import shadow_figures
    from rf_serving.deployment.rehearsal import Rehearsal
    from rf_serving.experiments.split_status import ExperimentSettings, logged_status
    from rf_serving.refresh.gates import NotWorse
    from rf_serving.refresh.nightly import Refresh, RefreshOptions
    from rf_serving.refresh.trial import ShadowStage, SplitStage, Stage

    if on_error not in list(OnError):
        raise UsageError(f"--on-error={on_error!r} is neither 'fail' nor 'quarantine'")
    source = source or ("custom" if mapping is not None else None)
    settings_now = get_settings()
    checks: dict[str, Any] = {
        "current_spec": partial(features_now, settings_now),
        "rehearse": Rehearsal(settings_now),
    }
    stages: list[Stage] = []
    if shadow_hours is not None:
        stages.append(ShadowStage(hours=shadow_hours, read=partial(shadow_figures, address), **checks))
    if percent is not None:
        measured = ExperimentSettings(
            outcome=tuple(outcome or ()), value=value, window_seconds=window * 3600, margin=margin, users=users
        )
        reading = partial(logged_status, settings_now)
        stages.append(SplitStage(percent=percent, measured=measured, most_days=most_days, read=reading, **checks))
    elif outcome or value:
        raise UsageError("--outcome and --value are those of --percent; give it, too")
    work = Refresh(
        settings_now,
        RefreshOptions(
            source=None if source is None else Request(source=source, path=path, mapping=mapping),
            on_error=OnError(on_error),
            recipe=recipe,
            changes=tuple(settings or ()),
            processes=nproc,
            gates=(NotWorse(margin=margin),),
            stages=tuple(stages),
            promote=not no_promote,
            skew=settings_now.skew_gate if skew is None else skew.value,
        ),
    )
    if dry_run:
        plan = work.plan()
        if as_json:
            print_json({"dry_run": True, "steps": plan})
        else:
            for number, step in enumerate(plan, 1):
                say(f"{number}. {step}")
        return
    ended = work.run()
    if as_json:
        print_json(ended.to_dict())
    else:
        for verdict in ended.verdicts:
            color = {"passed": "green", "waiting": "yellow"}.get(verdict.word, "red")
            out_console().print(f"[{color}]{verdict.word}[/] {verdict.gate}: {verdict.said}", highlight=False)
        say(f"{ended.result}: {ended.said}")
    if ended.result == "refused":
        raise typer.Exit(REFUSED)
