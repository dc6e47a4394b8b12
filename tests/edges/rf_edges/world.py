"""A workspace in which every command succeeds, and runs of commands in it."""

import json
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rf_edges.disk import Disk, copy, listing
from rf_edges.edge import Edge
from rf_edges.process import Ended, Running, start
from rf_edges.training_commands import RERANK, SMALL
from rf_platform.data.importer import column_types
from rf_platform.data.specs import TABLES
from rf_platform.registry import Registry

_REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
_SHOP = """\
name: tiny
interactions: {file: events.csv, user: u, item: i, timestamp: t}
items: {file: items.parquet, item: i, attributes: {title: name}}
"""
_GIVEN = {
    "inbox/shop.yaml": _SHOP,
    "inbox/events.csv": "u,i,t\n" + "".join(f"{n % 7},{n % 5},{1_500_000_000 + n}\n" for n in range(300)),
    "inbox/log.csv": "user_id,item_id,timestamp\n"
    + "".join(f"{n % 7},{n % 5},{1_500_000_000 + n}\n" for n in range(300)),
    "items.jsonl": '{"item_id": 9001, "item_attributes__genres": ["Drama"]}\n',
    "events.jsonl": '{"user_id": 1, "item_id": 101, "event_type": "rating", "rating": 5.0}\n',
    "users.txt": "1\n2\n3\n",
    "grid.yaml": "groups: {history: {variants: {short: {model.max_history: 4}}}}\n",
    "policy.yaml": "placements: {home: {pins: [{item: 101, place: 1}], caps: [{feature: item_attributes__genres, most: 2}]}}\n",
    "filter.json": '{"deny_items": ["101"]}',
    "away/.keep": "",
}
_STEPS = (
    "features apply",
    "features materialize",
    "dataset build",
    f"train --recipe demo --name done --set train.epochs=1 {SMALL}",
    f"rerank train --run done {RERANK}",
    "index build done --name first",
    "index build done --name second --kind exact",
    *("promote first", "promote second") * 2,
    "token add reader",
    "policy apply {home}/policy.yaml",
    "bundle keygen {home}/release.pem",
    "bundle sign second --key {home}/release.pem",
    "store push bundle first --url file://{home}/away",
    "store push dataset tiny-v1 --url file://{home}/away",
)
_BEGUN = f"train --recipe demo --name begun --set train.epochs=3 {SMALL}"


class World:
    """A workspace that is made once, and put back as it was before each use.

    It has two runs, one complete with a re-ranker, one interrupted; two bundles, one promoted after the other; a token, and
    files that commands are given.
    """

    def __init__(self, directory: Path, write_tables: Callable[..., None]) -> None:
        self._place, self._kept, self._said = directory / "place", directory / "kept", directory / "said"
        self.home = self._place / "home"
        self._environment = {
            "RF_FEATURE_REPO": str(self.home / "feature_repo"),
            "RF_HOME": str(self.home),
            "RF_THREADS": "1",
            "COLUMNS": "200",
        }
        self._runs = 0
        shutil.copytree(_REPOSITORY, self.home / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
        for name, text in _GIVEN.items():
            (self.home / name).parent.mkdir(exist_ok=True)
            (self.home / name).write_text(text)
        shop = pa.table({"i": list(range(5)), "name": [f"item {n}" for n in range(5)]})
        pq.write_table(shop, self.home / "inbox" / "items.parquet")
        self.run(f"data import custom --mapping {self.home}/inbox/shop.yaml".split()).check(0)
        self._other_tables(write_tables)
        for step in _STEPS:
            self.run(step.format(home=self.home).split()).check(0)
        self.start(_BEGUN.split(), at=("os.rename", "step-00000002"), do=signal.SIGINT).ended().check(130)
        copy(self.home, self._kept)

    def _other_tables(self, write_tables: Callable[..., None]) -> None:
        """Put tables that are fit for a training in the place of the imported ones."""
        tables = self.home / "tables"
        record = tables / "import.json"
        report = json.loads(record.read_text())
        write_tables(tables, users=16, items=24, events=8)
        report["columns"] = {name: column_types(tables / f"{name}.parquet") for name in TABLES}
        report["counts"] |= {"interactions": 128, "items": 24, "users": 16}
        record.write_text(json.dumps(report))

    def start(self, arguments: Sequence[str], **more: Any) -> Running:
        """Start a command; ``more`` as :func:`rf_edges.process.start` has it."""
        self._runs += 1
        return start(arguments, self._said / str(self._runs), self._environment, **more)

    def run(self, arguments: Sequence[str], **more: Any) -> Ended:
        """Run a command to its end."""
        return self.start(arguments, **more).ended()

    def prepared(self, edge: Edge) -> list[str]:
        """Put the workspace back, take away what a command makes anew, and return what is typed."""
        shutil.rmtree(self.home)
        copy(self._kept, self.home)
        for path in edge.makes:
            shutil.rmtree(self.home / path, ignore_errors=True)
        return edge.command_line(self.home)

    def run_on_disk(self, edge: Edge, left: int | None = None, then: Sequence[Sequence[str]] = ()) -> Ended:
        """Run a command with its workspace on a disk of its own, see :class:`rf_edges.disk.Disk`."""
        arguments = self.prepared(edge)
        copied = self._place.with_name("copied")
        shutil.rmtree(copied, ignore_errors=True)
        self.home.rename(copied)
        try:
            return self.run(arguments, disk=Disk(self._place, copied, left, then))
        finally:
            copied.rename(self.home)

    def files(self) -> dict[str, int]:
        """Return sizes of all that lies in the workspace, by path."""
        return listing(self.home)

    def check_whole(self, edge: Edge, before: Mapping[str, int]) -> None:
        """Check that only what the command writes has changed, nothing is half-made, and bundles are recorded, all of them."""
        assert edge.strays(before, self.files()) == []
        registry = Registry.open(f"sqlite:///{self.home}/registry.db", root=self.home)
        bundles = [bundle.path for bundle in registry.bundles()]
        assert {path.name for path in bundles} == {path.name for path in (self.home / "bundles").glob("[!.]*")}
        assert all((path / "manifest.json").is_file() for path in bundles)
