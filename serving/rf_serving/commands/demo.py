"""``rf demo``: the whole way on MovieLens-100K, or on a small made-up catalog, as the commands a user would type."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rf_serving.background_server import BackgroundServer

app = typer.Typer()

USERS = ("1", "42", "405")
_MADE_UP = ("synth", "--users", "500", "--items", "100", "--events", "5000")
"""Arguments of the step that makes the catalog of ``--quick``."""
_ELSEWHERE = (
    "RF_REGISTRY_URL",
    "RF_ONLINE_STORE_URL",
    "RF_FEAST_REGISTRY_URL",
    "RF_FEATURE_REPO",
    "RF_FEATURE_SERVICE",
)
_RULE = 100
"""Columns of the lines between the steps, at most."""
RATIO = 2.0
"""Least ratio of the model's Recall@20 to that of popularity."""


@app.command()
def demo(
    recipe: Annotated[str, typer.Option(help="Recipe to train with.")] = "demo",
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="On a small made-up catalog, with one epoch, in demo-quick/: shows that an installation works, not how good a "
            "model is.",
        ),
    ] = False,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Leave the server and the console running until Ctrl-C. A demo that was made before is not made again.",
        ),
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the server; 0 chooses a free one, which is said.")
    ] = 0,
    console_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the console of --keep; 0 chooses a free one, which is said.")
    ] = 0,
) -> None:
    """Go through everything on MovieLens-100K: import, features, dataset, training, evaluation, bundle, server, queries.

    Works in its own workspace, demo/ under the current one, with the engines inside it, and runs the commands you would type.
    """
    from time import perf_counter

    from rich.rule import Rule

    from rf_platform.cli.app import app as rf
    from rf_platform.cli.console import out_console, say
    from rf_platform.interrupts import received
    from rf_platform.settings import get_settings, use_home
    from rf_serving.background_server import BackgroundServer

    start = perf_counter()
    console = out_console()
    if dropped := _own_engines():
        say(f"the demo keeps to its own workspace and leaves {', '.join(dropped)} aside")
    home = use_home(get_settings().home / ("demo-quick" if quick else "demo"))

    def step(*arguments: str, shown: str = "") -> None:
        console.print()
        console.print(Rule(f"[bold]rf {shown or ' '.join(arguments)}", align="left"), width=_RULE)
        rf(list(arguments), standalone_mode=False)
        if received() is not None:  # it ends the command, not the process
            raise KeyboardInterrupt

    if made := keep and _is_made(home):
        say(f"the demo in {home} was made before, and is shown as it is")
    else:
        step("data", *(_MADE_UP if quick else ("import", "movielens-100k")))
        step("features", "apply")
        step("features", "materialize")
        step("features", "show")
        step("dataset", "build")
        step("train", "--recipe", recipe, *(("--set", "train.epochs=1") if quick else ()))
        step("evaluate")
        step("index", "build")
        step("promote", _newest_bundle())
    console.print()
    console.print(Rule("[bold]rf serve", align="left"), width=_RULE)
    with BackgroundServer(home, _served_at(port, keep=keep)) as server:
        say(f"{server.serving['bundle']} answers at {server.address}")
        for user in USERS if not made else ():
            step("query", "--user", user, "-k", "8", "--address", server.address, shown=f"query --user {user} -k 8")
        if not made:
            console.print()
            console.print(Rule("[bold]done", align="left"), width=_RULE)
            seconds = perf_counter() - start
            if quick:
                say(
                    f"Every step works here; it took {seconds:.0f} s. `rf demo` goes the same way on MovieLens-100K, with "
                    "figures that count."
                )
            else:
                _conclude(seconds)
        if not keep:
            _say_next(home, quick)
            return
        console.print()
        console.print(Rule("[bold]rf console", align="left"), width=_RULE)
        _say_kept(server)
        metrics = f"http://127.0.0.1:{server.serving['metrics_port']}/metrics"
        # Ctrl-C ends this command, and the server after it.
        asked = ["console", "--port", str(console_port), "--address", server.address, "--metrics", metrics]
        rf(asked, standalone_mode=False)


def _served_at(port: int, *, keep: bool) -> list[str]:
    """Return the options of the server: with all its ports where people look at it."""
    return ["--port", str(port), *(("--metrics-port", "0", "--http-port", "0", "--log-share", "1") if keep else ())]


def _is_made(home: Path) -> bool:
    """Say whether there is a demo with a promoted bundle."""
    from rf_platform.registry import Registry

    return home.is_dir() and Registry.of().active_bundle() is not None


def _own_engines() -> list[str]:
    """Drop the variables that point elsewhere, for this process and the server it starts, and return their names."""
    dropped = sorted(name for name in os.environ if name.upper() in _ELSEWHERE)
    for name in dropped:
        del os.environ[name]
    return dropped


def _newest_bundle() -> str:
    from rf_platform.registry import Registry

    return Registry.of().bundles()[-1].name


def _conclude(seconds: float) -> None:
    """Say what was reached and what to try next.

    Raises:
        RunError: the model is not worth showing.
    """
    from rf_platform.cli.console import say
    from rf_platform.errors import RunError
    from rf_platform.registry import Registry
    from rf_platform.settings import get_settings

    settings = get_settings()
    record = Registry.of(settings).run()
    recall = {(r["scorer"], r["seen"]): r["metrics"]["recall@20"]["value"] for r in record.metrics["test"]["results"]}
    model = next(scorer for scorer, _ in recall if scorer.lower().startswith("retrievalformer"))
    ratios = {seen: recall[model, seen] / recall["popularity", seen] for seen in ("excluded", "kept")}
    text = ", ".join(f"{ratio:.1f} times with seen items {seen}" for seen, ratio in ratios.items())
    say(f"Recall@20 against popularity: {text}. All of it took {seconds:.0f} s.")
    if min(ratios.values()) < RATIO:
        raise RunError(
            f"the model does not reach {RATIO:g} times popularity's Recall@20 ({text}); something is wrong with this build"
        )


def _say_next(home: Path, quick: bool) -> None:
    """Say how to go on."""
    from rf_platform.cli.console import say
    from rf_platform.features.store import find_repository
    from rf_platform.settings import get_settings

    settings = get_settings()
    again = "rf demo --quick --keep" if quick else "rf demo --keep"
    say(
        f"""
What to try next (activate .venv, then):
  {again:<50}  serves this workspace and opens its console: catalog, users, runs, deployments
  rf --home {home} serve                              the server alone, and, in a second shell,
  rf --home {home} console                            the console beside it, at http://127.0.0.1:8090/
  rf --home {home} query --history 50,181,172         an anonymous session that liked Star Wars
  rf --home {home} train --set model.dim=128          another model; then evaluate, index build, promote
  rf --home {home} rollback                           back to the bundle served before
  tensorboard --logdir {home}/runs                    loss and validation curves
Add a feature: write a feature view in {find_repository(settings)},
name it in the feature service, and run features apply, dataset build, train again. README.md shows how, and how to
bring your own data."""
    )


def _say_kept(server: "BackgroundServer") -> None:
    """Say where everything answers."""
    from rf_platform.cli.console import say

    told = server.serving
    say(
        f"gRPC answers at {told['address']}, HTTP/JSON at http://127.0.0.1:{told['http_port']}/; Ctrl-C ends both and the console"
    )
