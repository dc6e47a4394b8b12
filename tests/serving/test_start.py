"""What a server refuses to start with."""

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from rf_platform.errors import ConfigError, CorruptError, NotFoundError, UnavailableError
from rf_platform.features.apply import apply_definitions
from rf_platform.settings import Settings
from rf_serving.server.admission import Admission
from rf_serving.server.metrics import ServerMetrics
from rf_serving.server.options import ServeOptions
from rf_serving.server.server import RetrievalServer
from rf_serving.server.wiring import build_components

REPOSITORY = Path(__file__).parents[2] / "feature_repo" / "movielens"


@pytest.fixture
def workspace(home_copy: Path) -> Settings:
    return Settings(home=home_copy, feature_repo=REPOSITORY)


def starts(settings: Settings, name: str | None = None) -> tuple[str, int]:
    """Build what a server needs, and return the name of the bundle that it serves and the number of its items."""

    async def build() -> tuple[str, int]:
        options, metrics, admission = ServeOptions(port=0, bundle=name), ServerMetrics(), Admission(8)
        with build_components(settings, metrics, options, admission) as parts:
            bundle = parts.retriever.bundle
            assert len(bundle.item_ids) == bundle.index.items
            return bundle.name, bundle.index.items

    return asyncio.run(build())


@pytest.mark.parametrize(
    "file", ["vectors.npy", "items.parquet", "model/weights.safetensors", "encoder/genre.parquet", "spec.json"]
)
def test_a_damaged_file_is_named(workspace: Settings, file: str) -> None:
    path = workspace.workspace.bundles / "tiny-run-1" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptError, match=f"{file} .checksum differs."):
        starts(workspace)


def test_a_feature_store_that_changed_is_refused_by_field(workspace: Settings, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(REPOSITORY, tmp_path / "repository", ignore=shutil.ignore_patterns("__pycache__")))
    users = changed / "users.py"
    users.write_text(users.read_text().replace('Field(name="gender", dtype=String)', 'Field(name="sex", dtype=String)'))
    # A registry of its own: applied on a copied one, Feast would drop the tables of the workspace it was copied from.
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    other = workspace.model_copy(update={"feature_repo": changed, "feast_registry_url": url})
    apply_definitions(other)
    with pytest.raises(ConfigError) as raised:
        starts(other)
    assert "field user_profile__gender is gone" in str(raised.value)
    assert "user_profile__sex" not in str(raised.value)  # an addition is no reason


def test_without_a_promoted_bundle_the_remedy_is_named(tmp_path: Path) -> None:
    empty = Settings(home=tmp_path / "empty", feature_repo=REPOSITORY)
    with pytest.raises(NotFoundError, match=r"no bundle is promoted yet.*rf promote"):
        starts(empty)


def test_an_unknown_bundle_is_refused(workspace: Settings) -> None:
    with pytest.raises(NotFoundError, match="tiny-run-9"):
        starts(workspace, "tiny-run-9")


def test_a_bundle_that_is_not_promoted_can_be_served(workspace: Settings) -> None:
    assert starts(workspace, "tiny-run-1") == ("tiny-run-1", 60)


def test_a_server_does_not_start_without_its_online_store(workspace: Settings) -> None:
    with sqlite3.connect(workspace.workspace.feast / "online.db") as database:
        database.execute("DROP TABLE movielens_interaction_context")

    async def start() -> None:
        options, metrics, admission = ServeOptions(port=0), ServerMetrics(), Admission(8)
        with build_components(workspace, metrics, options, admission) as parts:
            await RetrievalServer(options, metrics, admission).start(parts)

    with pytest.raises(UnavailableError, match=r"online store does not answer \(OperationalError: no such table"):
        asyncio.run(start())
