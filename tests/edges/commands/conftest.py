"""A world in which every command succeeds, and runs of commands in it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_edges.edge import Edge
from rf_edges.process import Disk, Ended, Running, can_mount, listing, start
from rf_platform.data.importer import column_types
from rf_platform.data.specs import TABLES

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
SHOP = """\
name: tiny
interactions: {file: events.csv, user: u, item: i, timestamp: t}
items: {file: items.parquet, item: i, attributes: {title: name}}
"""


class World:
    """A workspace that is made once, and put back as it was before each use."""

    def __init__(self, directory: Path, write_tables: Callable[..., None]) -> None:
        self.home, self._kept, self._said = directory / "home", directory / "kept", directory / "said"
        self.environment = {
            "RF_FEATURE_REPO": str(self.home / "feature_repo"),
            "RF_HOME": str(self.home),
            "RF_THREADS": "1",
        }
        self._runs = 0
        shutil.copytree(REPOSITORY, self.home / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
        write_tables(self.home / "tables", users=8, items=12, events=6)
        inbox = self.home / "inbox"
        inbox.mkdir()
        (inbox / "shop.yaml").write_text(SHOP)
        (inbox / "events.csv").write_text(
            "u,i,t\n" + "".join(f"{n % 7},{n % 5},{1_500_000_000 + n}\n" for n in range(300))
        )
        pq.write_table(
            pa.table({"i": list(range(5)), "name": [f"item {n}" for n in range(5)]}), inbox / "items.parquet"
        )
        assert self.run(["data", "import", "custom", "--mapping", str(inbox / "shop.yaml"), "--replace"]).code == 0
        record = self.home / "tables" / "import.json"
        report = json.loads(record.read_text())
        write_tables(self.home / "tables", users=8, items=12, events=6)
        report["columns"] = {name: column_types(self.home / "tables" / f"{name}.parquet") for name in TABLES}
        report["counts"] |= {"interactions": 48, "items": 12, "users": 8}
        record.write_text(json.dumps(report))
        for command in ("features apply", "features materialize", "dataset build"):
            ended = self.run(command.split())
            assert ended.code == 0, ended.err
        shutil.copytree(self.home, self._kept)

    def restored(self) -> Path:
        """Put the workspace back as it was."""
        shutil.rmtree(self.home)
        shutil.copytree(self._kept, self.home, symlinks=True)
        return self.home

    def start(self, arguments: list[str], disk: Disk | None = None) -> Running:
        """Start a command."""
        self._runs += 1
        where = None if disk is None else (disk, self.home)
        return start(arguments, self._said / str(self._runs), self.environment, where)

    def run(self, arguments: list[str], disk: Disk | None = None) -> Ended:
        """Run a command to its end."""
        return self.start(arguments, disk).ended()

    def prepared(self, edge: Edge) -> list[str]:
        """Put the workspace back, take away what a command makes anew, and return what is typed."""
        self.restored()
        for path in edge.makes:
            shutil.rmtree(self.home / path, ignore_errors=True)
        return edge.command_line(self.home)

    def files(self) -> dict[str, int]:
        """Return sizes of all that lies in the workspace, by path."""
        return listing(self.home)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, write_tables: Callable[..., None]) -> World:
    return World(tmp_path_factory.mktemp("edges"), write_tables)


@pytest.fixture(scope="session")
def mounts() -> None:
    """Skip where file systems cannot be mounted."""
    if not can_mount():
        pytest.skip("needs root, to mount file systems in a namespace of its own")
