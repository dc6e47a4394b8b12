import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rf_platform.doctor.reach import online_store_url, problem_of
from rf_platform.errors import ConfigError
from rf_platform.redaction import without_password


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A local port that accepts connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["redis", "rediss", "postgresql", "postgresql+psycopg"])
def test_a_closed_port_is_a_problem_in_one_line(closed_port: int, scheme: str) -> None:
    problem = problem_of(f"{scheme}://rf:secret@127.0.0.1:{closed_port}/0")
    assert problem is not None
    assert str(closed_port) in problem
    assert "refused" in problem
    assert "secret" not in problem
    assert "\n" not in problem


@pytest.mark.parametrize("scheme", ["redis", "postgresql"])
def test_a_silent_server_is_given_up(silent_port: int, scheme: str) -> None:
    problem = problem_of(f"{scheme}://127.0.0.1:{silent_port}/0", seconds=1)
    assert problem is not None
    assert "time" in problem.lower()


@pytest.mark.postgres
def test_a_postgresql_that_answers_and_a_database_that_is_not_there() -> None:
    url = os.environ.get("RF_TEST_POSTGRES_URL")
    if not url:
        pytest.skip("RF_TEST_POSTGRES_URL is not set")
    assert problem_of(url) is None
    assert "does not exist" in str(problem_of(url.rpartition("/")[0] + "/rf_no_such_database"))


@pytest.mark.redis
def test_a_redis_that_answers() -> None:
    url = os.environ.get("RF_TEST_REDIS_URL")
    if not url:
        pytest.skip("RF_TEST_REDIS_URL is not set")
    assert problem_of(url) is None


def test_sqlite_files(tmp_path: Path) -> None:
    file = tmp_path / "a b#c.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,)] * 20)
    url = f"sqlite:///{file}"
    assert problem_of(url) is None
    data = file.read_bytes()
    file.write_bytes(data[:8192] + b"\xff" * (len(data) - 8192))
    assert "damaged: " in str(problem_of(url))
    file.write_bytes(b"not a database" * 1000)
    assert problem_of(url) == "file is not a database"
    file.unlink()
    assert problem_of(url) == "unable to open database file"
    assert not file.exists()


def test_an_unknown_engine_is_named_without_its_password() -> None:
    with pytest.raises(ConfigError, match="mysql://u:\\*\\*\\*@db/x"):
        problem_of("mysql://u:secret@db/x")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("postgresql://u:p:q@h:1/d", "postgresql://u:***@h:1/d"),
        ("postgresql://u@h:1/d?password=secret&x=1", "postgresql://u@h:1/d?password=***&x=1"),
        ("/some/path", "/some/path"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    ("section", "url"),
    [
        ({"type": "sqlite", "path": "data/online.db"}, "sqlite:////repo/data/online.db"),
        ({"type": "sqlite", "path": "/x/online.db"}, "sqlite:////x/online.db"),
        ({"type": "redis", "connection_string": "host:6380"}, "redis://host:6380/0"),
        (
            {"type": "redis", "connection_string": "host:6380,db=2,username=u,password=p=/@,ssl=true"},
            "rediss://u:p%3D%2F%40@host:6380/2",
        ),
        (
            {"type": "postgres", "host": "h", "port": 5433, "database": "d", "user": "u", "password": "p@"},
            "postgresql://u:p%40@h:5433/d",
        ),
    ],
)
def test_the_online_store_of_a_feast_configuration(section: dict[str, Any], url: str) -> None:
    assert online_store_url(SimpleNamespace(repo_path="/repo", online_store=SimpleNamespace(**section))) == url


def test_an_online_store_that_is_not_known() -> None:
    with pytest.raises(ConfigError, match="of type 'dynamodb'"):
        online_store_url(SimpleNamespace(repo_path="/", online_store=SimpleNamespace(type="dynamodb")))
