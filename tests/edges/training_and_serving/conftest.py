"""A workspace with everything in it, and commands that start in milliseconds."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
LIMIT = 240.0
"""Seconds that a command may take on a busy machine."""


@dataclass
class Started:
    """A command that runs."""

    forks: "Forks"
    process: int
    output: Path

    def __post_init__(self) -> None:
        self._ended = os.pidfd_open(self.process)

    def wait(self, seconds: float = LIMIT) -> "Done":
        """Wait for its end."""
        try:
            ended, _, _ = select.select([self._ended], [], [], seconds)
            assert ended, f"it runs for more than {seconds} s: {self.text('stderr')}"
        finally:
            self.kill()
        os.close(self._ended)
        return Done(self.forks.ask({"wait": self.process}), self.text("stdout"), self.text("stderr"), self.output)

    def reached(self) -> bool:
        """Wait until it is where it waits, or has ended; say which."""
        while not (self.output / "reached").exists():
            if select.select([self._ended], [], [], 0.005)[0]:
                return (self.output / "reached").exists()
        return True

    def go_on(self) -> None:
        """Let it go on from where it waits."""
        (self.output / "reached").unlink(missing_ok=True)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        signal.pidfd_send_signal(self._ended, number)

    def kill(self) -> None:
        """End it, if it has not ended."""
        if not select.select([self._ended], [], [], 0)[0]:
            with suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)

    def text(self, name: str) -> str:
        """What it has written."""
        path = self.output / name
        return path.read_text() if path.exists() else ""


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str
    output: Path

    @property
    def sentence(self) -> str:
        """The last line of what it said."""
        return (self.err.strip().splitlines() or [""])[-1]


class Forks:
    """Starts commands in forks of one process, see ``fork.py``."""

    def __init__(self, outputs: Path) -> None:
        self._outputs = outputs
        self._number = 0
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        self._parent = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork.py"))],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the process."""
        with self._parent as parent:
            assert parent.stdin is not None
            parent.stdin.close()

    def start(self, home: Path, arguments: list[str], **more: Any) -> Started:
        """Start a command on a workspace; ``more`` as ``fork.py`` has it."""
        self._number += 1
        output = self._outputs / str(self._number)
        output.mkdir()
        env = {"RF_HOME": str(home), "RF_FEATURE_REPO": str(REPOSITORY), "RF_THREADS": "1", "COLUMNS": "200"}
        return Started(self, self.ask({"argv": arguments, "env": env, "output": str(output), **more}), output)

    def run(self, home: Path, arguments: list[str], **more: Any) -> Done:
        """Run a command to its end."""
        return self.start(home, arguments, **more).wait()

    def ask(self, request: dict[str, Any]) -> int:
        """Return the answer to a request."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(request) + "\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Start commands: ``forks.run(home, ["train"])``."""
    forks = Forks(tmp_path_factory.mktemp("said"))
    yield forks
    forks.close()


SMALL = [
    "--set",
    "model.dim=16",
    "--set",
    "model.layers=1",
    "--set",
    "train.checkpoint_steps=1",
    "--set",
    "train.batch_size=64",
]
RERANK = ["--set", "train.epochs=1", "--set", "train.views=1"]


@pytest.fixture(scope="session")
def template(forks: Forks, tmp_path_factory: pytest.TempPathFactory, write_tables: Callable[..., None]) -> Path:
    """A workspace with two runs, one complete with a re-ranker, one interrupted; two bundles, one promoted after the other;
    recorded events, a token, and files that commands are given.
    """
    home = tmp_path_factory.mktemp("edges") / "home"
    write_tables(home / "tables", users=16, items=24, events=8)
    (home / "items.jsonl").write_text('{"item_id": 9001, "item_attributes__genres": ["Drama"]}\n')
    (home / "events.jsonl").write_text('{"user_id": 1, "item_id": 101, "event_type": "rating", "rating": 5.0}\n')
    (home / "users.txt").write_text("1\n2\n3\n")
    (home / "grid.yaml").write_text("groups: {history: {variants: {short: {model.max_history: 4}}}}\n")
    (home / "filter.json").write_text('{"deny_items": ["101"]}')
    steps = [
        "features apply",
        "features materialize",
        "dataset build",
        "train --recipe demo --name done --set train.epochs=1",
        "rerank train --run done",
        "index build done --name first",
        "index build done --name second --kind exact",
        "promote first",
        "promote second",
        "promote first",
        "promote second",
        "token add reader",
    ]
    for step in steps:
        more = SMALL if step.startswith("train") else RERANK if step.startswith("rerank") else []
        done = forks.run(home, [*step.split(), *more])
        assert done.code == 0, f"{step}: {done.err}"
    begun = ["train", "--recipe", "demo", "--name", "begun", "--set", "train.epochs=3", *SMALL]
    done = forks.run(home, begun, at=["os.rename", "step-00000002"], do=signal.SIGINT)
    assert done.code == 130, done.err
    return home


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    """A copy of the workspace for one test."""
    subprocess.run(["cp", "-RP", template, tmp_path / "home"], check=True)
    return tmp_path / "home"
