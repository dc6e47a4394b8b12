"""The same features from the embedded engines and from Redis and PostgreSQL, switched by settings alone."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine, text

from rf_platform.errors import ConfigError, NotFoundError
from rf_platform.features.apply import apply_definitions
from rf_platform.features.materialize import materialize
from rf_platform.features.read import read_spec
from rf_platform.features.store import find_repository, open_store, quiet, repo_config
from rf_platform.settings import Settings

ACCOUNTS = [2**63 - 1, None, -(2**53) - 1, 2**53 + 1]
"""Whole numbers that a float does not hold, beside a gap that pandas would make floats of."""
REPOSITORY = Path(__file__).parents[2] / "feature_repo" / "movielens"


@pytest.fixture
def database() -> Iterator[str]:
    """URL of an empty PostgreSQL database of our own."""
    server = os.environ.get("RF_TEST_POSTGRES_URL")
    if not server:
        pytest.skip("RF_TEST_POSTGRES_URL is not set")
    name = f"rf_test_{uuid4().hex}"
    engine = create_engine(server.replace("postgresql://", "postgresql+psycopg://", 1), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield urlsplit(server)._replace(path=f"/{name}").geturl()
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


def settings_for(home: Path, write_tables: Callable[..., None], **urls: str) -> Settings:
    """A workspace with a project name of its own, so that a shared Redis keeps nothing of it mixed up."""
    repository = home / "feature_repo"
    shutil.copytree(REPOSITORY, repository, ignore=shutil.ignore_patterns("__pycache__"))
    yaml = repository / "feature_store.yaml"
    yaml.write_text(yaml.read_text().replace("project: movielens", f"project: t{uuid4().hex}"))
    write_tables(home / "tables", users=4, items=12, events=6)
    users = pq.read_table(home / "tables" / "users.parquet")
    pq.write_table(users.append_column("account", pa.array(ACCOUNTS, pa.int64())), home / "tables" / "users.parquet")
    definitions = repository / "users.py"
    account = '    schema=[\n        Field(name="account", dtype=Int64),'
    text = definitions.read_text().replace("    schema=[", account)
    definitions.write_text(text)
    return Settings(home=home, feature_repo=repository, **urls)  # type: ignore[arg-type]


def online(settings: Settings) -> dict[str, list[Any]]:
    store = open_store(settings)
    with quiet():
        answer = store.get_online_features(
            features=[
                "user_profile:gender",
                "user_profile:account",
                "interaction_context:item_ids",
                "interaction_context:ratings",
            ],
            entity_rows=[{"user_id": u} for u in (1, 2, 99)],
            full_feature_names=True,
        )
    values: dict[str, list[Any]] = answer.to_arrow().to_pydict()
    return values


def loaded(settings: Settings) -> dict[str, list[Any]]:
    apply_definitions(settings)
    materialize(settings)
    return online(settings)


@pytest.fixture
def expected(tmp_path: Path, write_tables: Callable[..., None]) -> dict[str, list[Any]]:
    values = loaded(settings_for(tmp_path / "embedded", write_tables))
    assert values["user_profile__gender"] == ["F", "M", None]
    assert values["user_profile__account"] == [ACCOUNTS[0], None, None]
    assert [len(v or []) for v in values["interaction_context__item_ids"]] == [6, 6, 0]
    return values


@pytest.mark.redis
def test_redis(tmp_path: Path, write_tables: Callable[..., None], expected: dict[str, list[Any]]) -> None:
    url = os.environ.get("RF_TEST_REDIS_URL")
    if not url:
        pytest.skip("RF_TEST_REDIS_URL is not set")
    settings = settings_for(tmp_path / "redis", write_tables, online_store_url=url)
    assert loaded(settings) == expected
    with quiet():
        open_store(settings).teardown()


@pytest.mark.postgres
@pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")  # Feast leaves its connection open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_postgres_for_registry_and_online_store(
    tmp_path: Path, write_tables: Callable[..., None], expected: dict[str, list[Any]], database: str
) -> None:
    settings = settings_for(
        tmp_path / "postgres",
        write_tables,
        online_store_url=database,
        feast_registry_url=database,
    )
    assert loaded(settings) == expected
    assert not (settings.workspace.feast / "registry.db").exists()
    assert read_spec(open_store(settings), "retrieval").inputs("item")


def test_what_the_file_says_is_kept_and_the_environment_wins(tmp_path: Path, write_tables: Callable[..., None]) -> None:
    settings = settings_for(tmp_path, write_tables)
    yaml = tmp_path / "feature_repo" / "feature_store.yaml"
    yaml.write_text(yaml.read_text().replace("type: sqlite", "type: sqlite\n  path: /elsewhere/online.db"))
    assert repo_config(settings).online_config["path"] == "/elsewhere/online.db"
    elsewhere = settings.model_copy(update={"online_store_url": "rediss://me:secret@cache:7000/3"})
    assert repo_config(elsewhere).online_config == {
        "type": "redis",
        "connection_string": "cache:7000,db=3,username=me,password=secret,ssl=true",
    }


def test_escaped_passwords(tmp_path: Path, write_tables: Callable[..., None]) -> None:
    settings = settings_for(tmp_path, write_tables, online_store_url="postgresql://me:p%40ss%2F1@host/db")
    assert repo_config(settings).online_config["password"] == "p@ss/1"
    redis = settings.model_copy(update={"online_store_url": "redis://:p%40ss%3D@host"})
    assert repo_config(redis).online_config["connection_string"] == "host:6379,db=0,password=p@ss="
    from feast.infra.online_stores.redis import RedisOnlineStore

    number = settings.model_copy(update={"online_store_url": "redis://:12345@host"})
    text = repo_config(number).online_config["connection_string"]
    assert RedisOnlineStore._parse_connection_string(text)[1]["password"] == "12345"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://me:secret@host/db", r"RF_ONLINE_STORE_URL='mysql://host/db'.*redis://"),
        ("redis://me:secret@host:63x9/0", r"RF_ONLINE_STORE_URL is not a URL .*host or port cannot be read"),
        ("postgresql://me:secret@host:99999/db", r"RF_ONLINE_STORE_URL.*[Pp]ort"),
        ("redis:///0", r"RF_ONLINE_STORE_URL='redis:///0' names no host"),
        ("redis://:sec%2Cret@host/0", r"RF_ONLINE_STORE_URL has a comma"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(
    tmp_path: Path, write_tables: Callable[..., None], url: str, message: str
) -> None:
    settings = settings_for(tmp_path, write_tables, online_store_url=url)
    with pytest.raises(ConfigError, match=message) as caught:
        repo_config(settings)
    assert "secret" not in str(caught.value)
    assert "feature_store.yaml" not in str(caught.value)


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"RF_FEATURE_REPO"):
        find_repository(Settings(home=tmp_path))


def test_a_definition_that_cannot_be_used_is_not_registered(tmp_path: Path, write_tables: Callable[..., None]) -> None:
    settings = settings_for(tmp_path, write_tables)
    apply_definitions(settings)
    before = read_spec(open_store(settings), "retrieval").hash
    items = tmp_path / "feature_repo" / "items.py"
    good = items.read_text()
    items.write_text(good.replace('tags={"domain": "year"}', 'tags={"domain": "genre"}'))
    with pytest.raises(
        ConfigError, match=r"item_attributes\.(genres|release_year).*item_attributes\.(genres|release_year)"
    ):
        apply_definitions(settings)
    assert read_spec(open_store(settings), "retrieval").hash == before
    items.write_text("import nothing_of_that_name\n" + good)
    with pytest.raises(
        ConfigError, match=r"cannot be applied: items\.py, line 1: ModuleNotFoundError.*nothing_of_that"
    ):
        apply_definitions(settings)
    items.write_text(good + "\nlater = nothing_of_that_name\n")
    line = good.count("\n") + 2
    with pytest.raises(ConfigError, match=rf"items\.py, line {line}: NameError.*nothing_of_that_name"):
        apply_definitions(settings)
    items.write_text(good + "\n)\n")
    with pytest.raises(ConfigError, match=rf"items\.py, line {line}: SyntaxError"):
        apply_definitions(settings)
