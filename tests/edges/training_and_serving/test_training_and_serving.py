"""Commands of the training and serving layers at their edges: damaged files, a full disk, a disk that may not be written to,
interrupts, and a second copy of the same command. Each ends well, or with one sentence; nothing half-made is left.
"""

import importlib
import json
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command

from rf_platform.cli.commands import COMMANDS
from rf_platform.registry import Registry, RunStatus

if TYPE_CHECKING:
    from conftest import Done, Forks  # type: ignore[import-not-found]

MODEL = "--set model.dim=16 --set model.layers=1 --set train.epochs=1 --set train.checkpoint_steps=1 --set train.batch_size=64"
RERANK = "--set train.epochs=1 --set train.views=1"
IMPORTS = ("import", "rf_training.")
SERVING = ("import", "rf_serving.")
UNFINISHED = re.compile(r"\.part$|\.tmp$|(^|/)\.(building|starting|training|unfinished|writing)-")
"""Names of what is half-made."""


@dataclass(frozen=True, kw_only=True)
class Edge:
    """What is done to a command."""

    does: str
    """Its arguments; ``HOME`` is the workspace, ``SERVER`` the address of a server."""
    reads: str | None = None
    """A file that is damaged; None for commands that read none but the registry."""
    moments: tuple[tuple[str, str], ...] = (IMPORTS,)
    """Where it is interrupted, see ``fork.py``."""
    after: str | None = None
    """What is run after an interrupt, or when a full disk has room again; default: the same."""
    pause: tuple[str, str] | None = None
    """Where the first of two copies waits for the second; None for commands that only ask a server, or change one record."""
    refused: str | None = None
    """What the second copy is told; None where both end well."""
    writes: bool = True
    """Whether it writes to the workspace."""


REPLACED = "os.rename"
EDGES = {
    "train": Edge(
        does=f"train --recipe demo --name new {MODEL}",
        reads="datasets/tiny-v1/encoder/genre.parquet",
        moments=(
            IMPORTS,
            ("open", "tfevents"),
            ("open", "state.pt"),
            (REPLACED, "step-"),
            ("open", "weights.pt"),
            ("open", "history.jsonl"),
            (REPLACED, "metrics.json"),
        ),
        after="train --resume --name new",
        pause=("open", "state.pt"),
        refused=r"run 'new' is being trained by process \d+ \(rf train .*\); wait until it has ended",
    ),
    "train --from": Edge(
        does=f"train --from second --name grown {MODEL.replace('--set model.dim=16 --set model.layers=1 ', '')}",
        reads="bundles/second/model/weights.pt",
        moments=(("open", ".starting-"), ("open", "state.pt")),
        after="train --resume --name grown",
        pause=("open", ".starting-"),
        refused=r"run 'grown' is being trained by process \d+",
    ),
    "train --resume": Edge(
        does="train --resume --name begun",
        reads="runs/begun/checkpoints/step-00000002/state.pt",
        moments=(("open", "state.pt"), (REPLACED, "step-")),
        pause=("open", "tfevents"),
        refused=r"run 'begun' is being trained by process \d+ \(rf train --resume --name begun\)",
    ),
    "evaluate": Edge(
        does="evaluate done --markdown HOME/found.md",
        reads="runs/done/best/weights.pt",
        moments=(IMPORTS, ("open", "weights.pt"), (REPLACED, "metrics.json"), (REPLACED, "found.md")),
        pause=(REPLACED, "metrics.json"),
    ),
    "report": Edge(
        does="report done",
        reads="runs/done/history.jsonl",
        moments=(IMPORTS, ("open", ".report")),
        pause=(REPLACED, "report.html"),
    ),
    "compare": Edge(
        does="compare done --markdown HOME/found.md",
        reads="runs/done/best/config.json",
        moments=(IMPORTS, (REPLACED, "found.md")),
        pause=(REPLACED, "found.md"),
    ),
    "ablate": Edge(
        does=f"ablate --grid HOME/grid.yaml --recipe demo {MODEL}",
        reads="grid.yaml",
        moments=(IMPORTS, ("open", "state.pt"), (REPLACED, "table.md")),
        pause=("open", "state.pt"),
    ),
    "rerank train": Edge(
        does=f"rerank train --run done --name other {RERANK}",
        reads="runs/done/best/weights.pt",
        moments=(IMPORTS, ("open", ".training-"), (REPLACED, "rerankers/other")),
        after=f"rerank train --run done --name other --replace {RERANK}",
        pause=("open", ".training-"),
        refused=r"the re-rankers of run 'done' are being trained by process \d+",
    ),
    "rerank use": Edge(
        does="rerank use lime-mha --run done",
        reads="runs/done/rerankers/lime-mha/training.json",
        moments=(IMPORTS, (REPLACED, "reranker")),
        pause=(REPLACED, "reranker"),
    ),
    "rerank compare": Edge(
        does="rerank compare --run done --markdown HOME/found.md",
        reads="runs/done/rerankers/lime-mha/weights.pt",
        moments=(IMPORTS, (REPLACED, "found.md")),
        pause=(REPLACED, "found.md"),
    ),
    "rerank experiment": Edge(
        does=f"rerank experiment --run done --group loss:bce {RERANK}",
        reads="runs/done/best/weights.pt",
        moments=(IMPORTS, (REPLACED, "cells"), (REPLACED, "table.md")),
        pause=(REPLACED, "cells"),
    ),
    "index build": Edge(
        does="index build done --name third",
        reads="runs/done/metrics.json",
        moments=(IMPORTS, ("open", ".building-"), (REPLACED, "bundles/third")),
        pause=("open", ".building-"),
        refused=r"bundle 'third' is being built by process \d+ \(rf index build done --name third\)",
    ),
    "promote": Edge(
        does="promote first",
        reads="bundles/first/model/weights.pt",
        moments=(SERVING, ("open", "manifest.json")),
        pause=("open", "manifest.json"),
    ),
    "rollback": Edge(
        does="rollback",
        reads="bundles/first/vectors.npy",
        moments=(SERVING, ("open", "manifest.json")),
        pause=("open", "manifest.json"),
    ),
    "shadow": Edge(
        does="shadow first",
        reads="bundles/first/items.parquet",
        moments=(SERVING, ("open", "manifest.json")),
        pause=("open", "manifest.json"),
    ),
    "deployment": Edge(does="deployment --address SERVER", moments=(("import", "rf_serving."),), writes=False),
    "token add": Edge(
        does="token add writer --role write",
        reads="tokens.json",
        moments=(("import", "rf_serving.server"), (REPLACED, "tokens.json")),
        after="token list",
        pause=(REPLACED, "tokens.json"),
        refused="a token for 'writer' is in .* already",
    ),
    "token list": Edge(
        does="token list", reads="tokens.json", moments=(("import", "rf_serving.server"),), writes=False
    ),
    "token remove": Edge(
        does="token remove reader",
        reads="tokens.json",
        moments=(("import", "rf_serving.server"), (REPLACED, "tokens.json")),
        after="token list",
        pause=(REPLACED, "tokens.json"),
        refused="no token for 'reader'",
    ),
    "events record": Edge(
        does="events record HOME/events.jsonl --address SERVER",
        reads="events.jsonl",
        moments=(("import", "rf_serving."),),
        writes=False,
    ),
    "events show": Edge(does="events show", moments=(("import", "rf_platform.data.event_log"),)),
    "events seal": Edge(does="events seal", moments=(("import", "rf_platform.data.event_log"),)),
    "items upsert": Edge(
        does="items upsert HOME/items.jsonl --address SERVER",
        reads="items.jsonl",
        moments=(("import", "rf_serving."),),
        writes=False,
    ),
    "items delete": Edge(does="items delete 105 --address SERVER", moments=(("import", "rf_serving."),), writes=False),
    "items get": Edge(does="items get 101 --address SERVER", moments=(("import", "rf_serving."),), writes=False),
    "query": Edge(does="query 1 --address SERVER", moments=(("import", "rf_serving."),), writes=False),
    "batch": Edge(
        does="batch --out HOME/top.parquet --users HOME/users.txt --filter @HOME/filter.json",
        reads="users.txt",
        moments=(SERVING, ("open", ".top.parquet"), (REPLACED, "top.parquet")),
        pause=(REPLACED, "top.parquet"),
    ),
    "serve": Edge(
        does="serve --port 0",
        reads="bundles/second/model/weights.pt",
        moments=(("import", "rf_serving.server.serve"), ("open", "vectors.npy")),
        after="bundles",
    ),
    "demo": Edge(does="demo", moments=(("import", "rf_platform.data.importer"),), after="--help"),
}
ASKING = [name for name, edge in EDGES.items() if "SERVER" in edge.does]


def leaves() -> Iterator[str]:
    """All commands of the training and serving layers; `rf dataset` is tried with the commands of the platform."""
    for name, entry in COMMANDS.items():
        if entry.target.startswith(("rf_training.", "rf_serving.")) and name != "dataset":
            module, attribute = entry.target.split(":")
            command: Any = get_command(getattr(importlib.import_module(module), attribute))
            yield from [f"{name} {each}" for each in getattr(command, "commands", {})] or [name]


def test_every_command_is_here() -> None:
    assert {re.sub(" --.*", "", name) for name in EDGES} == set(leaves())


def words(text: str, home: Path, server: str = "127.0.0.1:9") -> list[str]:
    return text.replace("HOME", str(home)).replace("SERVER", server).split()


def check(done: "Done", *codes: int) -> None:
    """A command has ended with one of these codes, and with one sentence if that says that it failed."""
    assert "Traceback" not in done.err + done.out, done.err
    assert "Exception" not in done.err, done.err
    assert done.code in codes, (done.code, done.err)
    if done.code in (1, 2) and done.sentence:
        assert done.err.count("error: ") == 1, done.err
        assert done.sentence.startswith("error: "), done.err


def check_nothing_half_made(home: Path) -> None:
    left = [str(path.relative_to(home)) for path in home.rglob("*")]
    assert [path for path in left if UNFINISHED.search(path)] == []
    for bundle in Registry.open(f"sqlite:///{home}/registry.db", root=home).bundles():
        assert (bundle.path / "manifest.json").is_file()
    recorded = {bundle.path.name for bundle in Registry.open(f"sqlite:///{home}/registry.db", root=home).bundles()}
    assert {path.name for path in (home / "bundles").glob("[!.]*")} == recorded


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: Mapping[str, Callable[[Path], object]] = {
    "bytes": lambda path: path.write_bytes(bytes(range(128, 256)) * 8),
    "a directory": as_directory,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", [name for name, edge in EDGES.items() if edge.reads])
def test_a_damaged_file_is_named(name: str, damage: str, forks: "Forks", home: Path) -> None:
    edge = EDGES[name]
    assert edge.reads is not None
    path = home / edge.reads
    if damage == "half" and path.suffix in (".txt", ".jsonl", ".yaml"):
        pytest.skip("half a text is a text")
    DAMAGE[damage](path)
    done = forks.run(home, words(edge.does, home))
    check(done, 1, 2)
    assert re.search(f"{re.escape(path.name)}|'(first|second)'", done.sentence), done.err
    check_nothing_half_made(home)


@pytest.mark.parametrize(
    ("name", "left"),
    [
        *((name, 60_000) for name, edge in EDGES.items() if edge.writes and name not in ("serve", "demo")),
        *((name, 0) for name in ("train", "index build", "promote", "events seal")),
    ],
)
def test_a_full_disk_is_told(name: str, left: int, forks: "Forks", template: Path, tmp_path: Path) -> None:
    edge = EDGES[name]
    place = tmp_path / "disk"
    place.mkdir()
    home = place / "home"
    then = [words(edge.after or edge.does, home)]
    if name in ("train", "train --from"):  # it may not have got so far that there is a run
        then.append(words(edge.does, home))
    disk = {"place": str(place), "template": str(template), "size": 24 << 20, "left": left, "then": then}
    result = on_disk(forks, home, words(edge.does, home), disk)
    done = result["done"]
    check(done, 0, 1)
    if done.code:
        assert "no space left on the disk of" in done.sentence or "could not be written" in done.sentence, done.err
        assert 0 in result["then"], result["more"]
    assert [path for path in result["left"] if UNFINISHED.search(path)] == []


@pytest.mark.parametrize("name", [name for name, edge in EDGES.items() if edge.writes and name != "demo"])
def test_a_disk_that_may_not_be_written_to_is_told(name: str, forks: "Forks", template: Path, tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    disk = {"place": str(place), "template": str(template), "size": 24 << 20, "read_only": True}
    result = on_disk(forks, place / "home", words(EDGES[name].does, place / "home"), disk)
    check(result["done"], 1, 2)
    assert re.search("read-only|cannot be written|readonly|writable", result["done"].sentence), result["done"].err


def on_disk(forks: "Forks", home: Path, arguments: list[str], disk: dict[str, Any]) -> Any:
    done = forks.run(home, arguments, disk=disk)
    if not (done.output / "result.json").exists():
        pytest.skip(f"mounting is not allowed here: {done.sentence}")
    result = json.loads((done.output / "result.json").read_text())
    done.code, (done.out, done.err) = result["code"], result["said"]
    return {**result, "done": done}


INTERRUPTS = [
    pytest.param(name, moment, number, id=f"{name}, {' '.join(moment)}, {number.name}")
    for name, edge in EDGES.items()
    for moment in edge.moments
    for number in (signal.SIGINT, signal.SIGTERM)
    if number == signal.SIGINT or moment == edge.moments[-1]
]


@pytest.mark.parametrize(("name", "moment", "number"), INTERRUPTS)
def test_an_interrupt_leaves_nothing_half_made(
    name: str, moment: tuple[str, str], number: signal.Signals, forks: "Forks", home: Path
) -> None:
    edge = EDGES[name]
    done = forks.run(home, words(edge.does, home), at=list(moment), do=number)
    assert (done.output / "reached").exists(), done.err
    check(done, 0 if name == "serve" and moment[0] == "open" else 128 + number)
    check_nothing_half_made(home)
    if name in ASKING:
        return
    again = forks.run(home, words(edge.after or edge.does, home))
    if edge.after and "--resume" in edge.after and again.code == 2:
        if "is complete" in again.sentence:
            return
        again = forks.run(home, words(edge.does, home))  # it had not begun
    check(again, 0)


@pytest.mark.parametrize("name", [name for name, edge in EDGES.items() if edge.pause])
def test_a_second_copy_ends_well_or_is_refused(name: str, forks: "Forks", home: Path) -> None:
    edge = EDGES[name]
    assert edge.pause is not None
    arguments = words(edge.does, home)
    first = forks.start(home, arguments, at=list(edge.pause), do="pause")
    assert first.reached(), first.text("stderr")
    second = forks.start(home, arguments)
    if edge.refused and not name.startswith("token"):
        done = second.wait()
        check(done, 2)
        assert re.search(edge.refused, done.sentence), done.err
        first.go_on()
        check(first.wait(), 0)
    else:
        first.go_on()
        ended = [first.wait(), second.wait()]
        check(ended[0], 0)
        check(ended[1], 2 if edge.refused else 0)
        assert edge.refused is None or re.search(edge.refused, ended[1].sentence), ended[1].err
    check_nothing_half_made(home)
    runs = Registry.open(f"sqlite:///{home}/registry.db", root=home).runs()
    assert all(run.status is RunStatus.COMPLETED for run in runs if run.name != "begun")


def test_what_a_killed_process_leaves_is_no_hindrance(forks: "Forks", home: Path) -> None:
    """Half a start, half a checkpoint, half a bundle and half a file are removed by the next command that makes the same."""
    for does, event, text in (
        (EDGES["train"].does, "open", ".starting-"),
        (EDGES["train"].does, REPLACED, "runs/new"),
        (EDGES["train"].does, "open", "state.pt"),
        (EDGES["index build"].does, "open", ".building-"),
        (EDGES["batch"].does, REPLACED, "top.parquet"),
    ):
        done = forks.run(home, words(does, home), at=[event, text], do=signal.SIGKILL)
        assert done.code == -signal.SIGKILL, done.err
    for does in ("train --resume --name new", EDGES["index build"].does, EDGES["batch"].does):
        check(forks.run(home, words(does, home)), 0)
    check_nothing_half_made(home)
