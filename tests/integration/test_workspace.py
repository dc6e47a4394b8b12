"""Materialising again, relative paths, and a workspace that is moved or copied."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine, text

from rf_platform.errors import ConfigError
from rf_platform.features.apply import apply_definitions
from rf_platform.features.materialize import materialize
from rf_platform.features.read import read_definitions, read_spec
from rf_platform.features.store import open_store, quiet
from rf_platform.settings import Settings

REPOSITORY = Path(__file__).parents[2] / "feature_repo" / "movielens"
ADDED = """        Field(name="orders", dtype=Array(Int64), tags={"role": "history", "of": "input_order"}),
"""


def workspace(
    home: Path, write_tables: Callable[..., None], project: str = "", url: str | None = None, **options: Any
) -> Settings:
    repository = home / "feature_repo"
    shutil.copytree(REPOSITORY, repository, ignore=shutil.ignore_patterns("__pycache__"))
    replace(repository / "feature_store.yaml", "project: movielens", f"project: {project or f't{uuid4().hex}'}")
    write_tables(home / "tables", users=4, items=12, events=6)
    return Settings(home=home, feature_repo=repository, online_store_url=url, **options)


def replace(file: Path, old: str, new: str) -> None:
    found = file.read_text()
    assert old in found
    file.write_text(found.replace(old, new))


def rewrite(file: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(file)), file)


def put(table: pa.Table, column: str, values: Any) -> pa.Table:
    return table.set_column(table.schema.get_field_index(column), column, values)


def online(settings: Settings, *features: str, users: tuple[Any, ...] = (1, 2)) -> dict[str, list[Any]]:
    store = open_store(settings)
    with quiet():
        answer = store.get_online_features(
            features=[f"interaction_context:{f}" for f in features] + ["user_profile:gender"],
            entity_rows=[{"user_id": u} for u in users],
        )
    values: dict[str, list[Any]] = answer.to_arrow().to_pydict()
    return values


@pytest.fixture(
    params=[
        pytest.param("", id="sqlite"),
        pytest.param("RF_TEST_REDIS_URL", marks=pytest.mark.redis, id="redis"),
        pytest.param("RF_TEST_POSTGRES_URL", marks=pytest.mark.postgres, id="postgres"),
    ]
)
def engine(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """URL of an online store; on PostgreSQL, of an empty database."""
    if not request.param:
        yield None
        return
    url = os.environ.get(request.param)
    if not url:
        pytest.skip(f"{request.param} is not set")
    if "POSTGRES" not in request.param:
        yield url
        return
    name = f"rf_test_{uuid4().hex}"
    server = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield urlsplit(url)._replace(path=f"/{name}").geturl()
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")  # Feast leaves its connection open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("ids", ["int64", "string"])
def test_materialising_again_shows_what_changed(
    tmp_path: Path, write_tables: Callable[..., None], engine: str | None, ids: str
) -> None:
    project = f"t{uuid4().hex}"
    settings = workspace(tmp_path / "a", write_tables, project, engine)
    other = workspace(tmp_path / "b", write_tables, f"other_{project}", engine)
    repository, tables = tmp_path / "a" / "feature_repo", settings.workspace.tables
    one, two = (1, 2) if ids == "int64" else ("1", "2")
    if ids == "string":
        integer, string = (f'join_keys=["user_id"], value_type=ValueType.{t}' for t in ("INT64", "STRING"))
        replace(repository / "entities.py", integer, string)
        for name in ("interactions", "users"):
            rewrite(tables / f"{name}.parquet", lambda t: put(t, "user_id", t["user_id"].cast(pa.string())))
    for each in (settings, other):
        apply_definitions(each)
        materialize(each)
    before = online(settings, "ratings", users=(one, two))
    assert [len(r) for r in before["ratings"]] == [6, 6]

    rewrite(
        tables / "interactions.parquet", lambda t: put(t, "rating", pc.divide(t["rating"], pa.scalar(8, pa.float32())))
    )
    for name in ("interactions", "users"):  # the second user is withdrawn
        rewrite(tables / f"{name}.parquet", lambda t: t.filter(pc.not_equal(t["user_id"], pa.scalar(two))))
    replace(repository / "context.py", "    schema=[\n", f"    schema=[\n{ADDED}")
    apply_definitions(settings)
    materialize(settings)
    after = online(settings, "ratings", "orders", users=(one, two))
    assert after["ratings"][0] == [r / 8 for r in before["ratings"][0]]
    assert len(after["orders"][0]) == 6
    assert not after["ratings"][1]
    assert (before["gender"], after["gender"]) == (["F", "M"], ["F", None])
    assert [len(r) for r in online(other, "ratings")["ratings"]] == [6, 6]
    for each in (settings, other):
        with quiet():
            open_store(each).teardown()


def test_relative_paths_start_at_the_repository(
    tmp_path: Path, write_tables: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = workspace(tmp_path / "w", write_tables)
    repository = tmp_path / "w" / "feature_repo"
    (repository / "data" / "items").mkdir(parents=True)
    shutil.move(settings.workspace.tables / "items.parquet", repository / "data" / "items" / "part.parquet")
    shutil.copy(settings.workspace.tables / "users.parquet", repository / "data" / "users.parquet")
    replace(repository / "sources.py", 'f"{TABLES}/items.parquet"', '"data/items"')
    replace(repository / "sources.py", 'f"{TABLES}/users.parquet"', '"data/users.parquet"')
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    apply_definitions(settings)
    paths = {s.view: s.path for s in read_definitions(open_store(settings), "retrieval").sources}
    assert paths["user_profile"] == str(repository / "data" / "users.parquet")
    assert paths["item_attributes"] == str(repository / "data" / "items" / "*.parquet")


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_a_workspace_elsewhere_is_applied_again(
    tmp_path: Path, write_tables: Callable[..., None], how: Callable[[Path, Path], Any]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    settings = workspace(first / "home", write_tables)
    apply_definitions(settings)
    materialize(settings)
    written = {p: p.read_bytes() for p in first.rglob("*") if p.suffix in (".parquet", ".db")}
    how(first, second)
    there = Settings(home=second / "home", feature_repo=second / "home" / "feature_repo")
    assert read_spec(open_store(there), "retrieval").inputs("item")  # a server needs the online store only
    assert online(there, "ratings")["gender"] == ["F", "M"]
    with pytest.raises(ConfigError, match=rf"{re.escape(str(first))}.*rf features apply"):
        materialize(there)

    rewrite(
        there.workspace.tables / "interactions.parquet",
        lambda t: put(t, "rating", pc.add(t["rating"], pa.scalar(9, pa.float32()))),
    )
    apply_definitions(there)
    materialize(there)
    assert all(r > 9 for r in online(there, "ratings")["ratings"][0])
    assert not [s.path for s in read_definitions(open_store(there), "retrieval").sources if str(first) in s.path]
    if how is shutil.move:
        assert not first.exists()
    else:
        assert {p: p.read_bytes() for p in written} == written


def test_what_plain_feast_apply_noted_does_not_stop_a_moved_workspace(
    tmp_path: Path, write_tables: Callable[..., None]
) -> None:
    settings = workspace(tmp_path / "first", write_tables)
    apply_definitions(settings)
    store = open_store(settings)
    from feast.infra.infra_object import Infra
    from feast.infra.online_stores.sqlite import SqliteTable

    path = str(settings.workspace.feast / "online.db")
    store.registry.update_infra(Infra(infra_objects=[SqliteTable(path=path, name="noted")]), store.project)
    shutil.move(tmp_path / "first", tmp_path / "second")
    there = Settings(home=tmp_path / "second", feature_repo=tmp_path / "second" / "feature_repo")
    with pytest.raises(ConfigError, match="rf features apply"):
        materialize(there)
    apply_definitions(there)
    materialize(there)
    assert online(there, "ratings")["gender"] == ["F", "M"]


@pytest.mark.parametrize("where", ["outside/precious.parquet", "tables/users.parquet"])
def test_history_is_not_written_over_other_data(tmp_path: Path, write_tables: Callable[..., None], where: str) -> None:
    settings = workspace(tmp_path, write_tables)
    precious = tmp_path / where
    precious.parent.mkdir(exist_ok=True)
    if not precious.exists():
        precious.write_bytes(b"precious")
    before = precious.read_bytes()
    replace(tmp_path / "feature_repo" / "sources.py", 'f"{TABLES}/user_history.parquet"', f'"{precious}"')
    apply_definitions(settings)
    with pytest.raises(ConfigError, match=rf"interaction_context.*{precious.name}"):
        materialize(settings)
    assert precious.read_bytes() == before


def test_relative_paths_mean_the_directory_the_command_was_started_in(
    tmp_path: Path, write_tables: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default workspace is relative, and definitions are imported from inside their repository."""
    write_tables(tmp_path / "shop" / "tables", users=4, items=12, events=6)
    shutil.copytree(REPOSITORY, tmp_path / "repo", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    settings = Settings(home=Path("shop"), feature_repo=Path("repo"))
    apply_definitions(settings)
    assert all(m.rows for m in materialize(settings))
    assert (tmp_path / "shop" / "tables" / "user_history.parquet").exists()
    assert not (tmp_path / "repo" / "shop").exists()
