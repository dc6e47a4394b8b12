import socket
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from rf_platform.errors import ConfigError, CorruptError, UnavailableError
from rf_platform.registry import Registry
from rf_platform.registry.engine import make_engine, parse_url


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_means_psycopg_3(scheme: str) -> None:
    url = parse_url(f"{scheme}://rf:p%40ss@db:5433/platform?sslmode=require")
    assert url.drivername == "postgresql+psycopg"
    assert (url.username, url.password, url.host, url.port, url.database) == ("rf", "p@ss", "db", 5433, "platform")
    assert url.query == {"sslmode": "require"}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("registry.db", "cannot be parsed"),
        ("mysql://rf:secret@db/platform", "engine 'mysql'"),
        ("postgresql+psycopg2://rf:secret@db/platform", "engine 'postgresql\\+psycopg2'"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "in memory"),
    ],
)
def test_unusable_urls_are_refused_without_their_password(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        parse_url(url)
    assert "secret" not in str(refused.value)


def test_a_server_that_does_not_answer_is_unavailable_and_its_password_secret(home: Path) -> None:
    with socket.socket() as reserved:  # bound but not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}.*RF_REGISTRY_URL") as refused:
            Registry.open(f"postgres://rf:secret@127.0.0.1:{port}/platform")
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_database_is_corrupt_and_left_alone(tmp_path: Path, home: Path) -> None:
    file = tmp_path / "registry.db"
    file.write_bytes(b"this is not a database" * 100)
    with pytest.raises(CorruptError, match=r"registry\.db is damaged: file is not a database"):
        Registry.open(f"sqlite:///{file}")
    assert file.read_bytes() == b"this is not a database" * 100


def test_a_damaged_page_is_corrupt(home: Path) -> None:
    file = home / "registry.db"
    registry = Registry.open(f"sqlite:///{file}")
    assert not (home / "registry.db-wal").exists()  # nothing is left in the log once the last connection is closed
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    file.write_bytes(data)
    with pytest.raises(CorruptError, match=r"registry\.db is damaged"):
        registry.runs()


def test_a_place_that_cannot_be_written_is_unavailable(tmp_path: Path, home: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(UnavailableError, match="unable to open database file"):
        Registry.open(f"sqlite:///{tmp_path / 'directory'}")
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match=r"registry\.db cannot be used: .*file exists already; check RF_REG"):
        Registry.open(f"sqlite:///{tmp_path / 'file' / 'registry.db'}")


def test_sqlite_is_in_wal_mode_and_waits_for_others(home: Path) -> None:
    url = f"sqlite:///{home / 'registry.db'}"
    Registry.open(url)
    with make_engine(parse_url(url)).connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 30_000


def test_the_database_enforces_foreign_keys_and_words(with_run: Registry, registry_url: str) -> None:
    engine = make_engine(parse_url(registry_url))
    for statement, constraint in (
        ("DELETE FROM rf_datasets", "foreign key"),
        ("UPDATE rf_runs SET status = 'sleeping'", "check"),
    ):
        with pytest.raises(IntegrityError, match=f"(?i){constraint}"), engine.begin() as connection:
            connection.execute(text(statement))
