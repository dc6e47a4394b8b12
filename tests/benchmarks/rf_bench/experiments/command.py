"""``rf bench experiments``."""

from typing import Annotated

import typer

from rf_bench.invocation import Invocation, Output
from rf_platform.cli.options import Json

app = typer.Typer()


@app.command()
def experiments(
    context: typer.Context,
    experiments: Annotated[int, typer.Option(min=20, help="Simulated experiments of each world.")] = 1000,
    users: Annotated[int, typer.Option(min=500, help="Users of an experiment; it is looked at after each.")] = 10_000,
    lift: Annotated[float, typer.Option(help="Effect of the worlds that have one, relative.")] = 0.2,
    logs: Annotated[int, typer.Option(min=10, help="Logs that off-policy estimates are made from.")] = 300,
    races: Annotated[int, typer.Option(min=2, help="Comparisons of interleaving and a split.")] = 30,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Experiments: false alarms, coverage and power on simulated users with known effects; no workspace is needed.

    Worlds without an effect show how often an experiment that is looked at after every user finds one nevertheless, beside an
    ordinary 95% interval; worlds with an effect show how often and how early it is found. Off-policy estimates are held
    against the truth of a small world, and interleaving against a split of the same users.

    [bold]Examples[/]

        rf bench experiments
        rf bench experiments --experiments 5000 --users 20000
    """
    from rf_bench.experiments.measure import estimators, race, splits
    from rf_bench.report import Report, Table

    call = Invocation.of(context)
    found = list(splits(users, experiments, lift, seed))
    estimates = estimators(logs, seed)
    compared = race(races, 3000, seed)
    alarms = max(each.outcome.excluded_zero for each in found if not each.lift)
    verdict = (
        f"false alarms at most {alarms:.1%}, and 5% are allowed; of the same two bundles the better one is told by interleaving "
        f"after {compared.interleaving:,.0f} users and by a split after {compared.split:,.0f} (medians)"
    )
    of_split = {
        "world": "{0.world}",
        "effect": "{0.lift:+.0%}",
        "found": "{0.outcome.excluded_zero:.3f}",
        "truth left out": "{0.outcome.excluded_truth:.3f}",
        "ordinary interval": "{0.outcome.naive:.3f}",
        "ratio alarms": "{0.outcome.mismatches:.3f}",
        "users until half": "{0.outcome.median_users:,.0f}",
        "past explains": "{0.outcome.explained:.2f}",
        "CPU s": "{0.seconds:.1f}",
    }
    of_estimate = {
        "estimate": "{0.name}",
        "bias": "{0.bias:+.1%}",
        "covered": "{0.covered:.3f}",
        "width": "{0.width:.2f}",
    }
    Report(
        title="Experiments",
        lead="Simulated users with known effects, each experiment looked at after every user.",
        results={"splits": found, "estimates": estimates, "race": compared},
        tables=[
            Table.of(
                f"share of {experiments:,} experiments with {users:,} users that at some look ...", found, of_split
            ),
            Table.of(f"off-policy estimates of {logs:,} logs of 8,000 answers", estimates, of_estimate),
        ],
        verdict=verdict,
    ).publish(call)
