"""What libraries and the system raise, raised for real, as errors of the platform; bugs stay what they are."""

import errno
import json
import os
import re
import socket
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError

import duckdb
import numpy as np
import onnxruntime.capi.onnxruntime_pybind11_state as ort
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import pytest
import redis
import sqlalchemy
import torch
import yaml

from rf_platform.errors import (
    ConfigError,
    CorruptError,
    DataError,
    NotFoundError,
    RfError,
    RunError,
    UnavailableError,
)
from rf_platform.failures import as_rf_error, first_line, read_json, reading, summary, system, translated, writing

Fail = Callable[[Path], Any]


def raised(fail: Callable[[], Any]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        fail()
    return caught.value


def truncated(path: Path) -> Path:
    pq.write_table(pa.table({"a": list(range(1000))}), path)
    path.write_bytes(path.read_bytes()[:-20])
    return path


def query(sql: str) -> Any:
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


def write_full(_: Path) -> None:
    with open("/dev/full", "w") as file:
        file.write("x" * 100_000)


def not_a_database(path: Path) -> None:
    (path / "x.db").write_text("hello " * 100)
    with sqlalchemy.create_engine(f"sqlite:///{path}/x.db").connect() as connection:
        connection.exec_driver_sql("SELECT * FROM sqlite_master")


def damaged_weights(path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, path / "w.pt")
    (path / "w.pt").write_bytes((path / "w.pt").read_bytes()[:500])
    torch.load(path / "w.pt", weights_only=True)


def pickled(path: Path) -> None:
    torch.save({"a": Path("x")}, path / "w.pt")
    torch.load(path / "w.pt", weights_only=True)


def readonly_database(path: Path) -> None:
    sqlite3.connect(path / "r.db").execute("CREATE TABLE x (a)").connection.close()
    connection = sqlite3.connect(f"file:{path}/r.db?mode=ro", uri=True)
    try:
        connection.execute("INSERT INTO x VALUES (1)")
    finally:
        connection.close()


def locked_database(path: Path) -> None:
    with closing(sqlite3.connect(path / "l.db")) as one, closing(sqlite3.connect(path / "l.db", timeout=0)) as other:
        one.execute("BEGIN EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")


def full_database(path: Path) -> None:
    with closing(sqlite3.connect(path / "f.db")) as database:
        database.execute("PRAGMA max_page_count = 1")
        database.execute("CREATE TABLE x (a)")


KNOWN: list[tuple[str, Fail, type[RfError], str]] = [
    ("missing file", lambda p: (p / "none").read_text(), NotFoundError, "no such file or directory: {p}/none; "),
    ("directory as file", lambda p: p.read_text(), ConfigError, "{p} is a directory, and a file is needed; "),
    ("file as directory", lambda _: os.listdir("/etc/passwd"), ConfigError, "not a directory: /etc/passwd"),
    ("long name", lambda p: (p / ("x" * 300)).write_text(""), ConfigError, "the name is too long: {p}/xxx"),
    ("a name that is taken", lambda p: p.mkdir(), ConfigError, "{p} exists already; "),
    ("a full disk", write_full, UnavailableError, "no space left on the disk of /the/workspace; make room"),
    ("no rights", lambda _: Path("/proc/sysrq-x").write_text(""), RfError, "/proc/sysrq-x"),
    ("memory", lambda _: np.zeros(1 << 60, np.int8), UnavailableError, "not enough memory (Unable to allocate"),
    ("refused", lambda _: socket.create_connection(("127.0.0.1", 1)), UnavailableError, "connection refused; "),
    ("no such host", lambda _: socket.create_connection(("x.invalid", 1)), UnavailableError, "check the address"),
    ("YAML", lambda _: yaml.safe_load("a: [b"), CorruptError, "it is no YAML: expected ',' or ']', but got"),
    ("archive", lambda _: zipfile.ZipFile("/etc/passwd"), CorruptError, "File is not a zip file; "),
    ("Parquet, by Arrow", lambda p: pq.read_table(truncated(p / "x")), CorruptError, "magic bytes"),
    (
        "Parquet, by DuckDB",
        lambda p: query(f"SELECT * FROM read_parquet('{truncated(p / 'x')}')"),
        CorruptError,
        "{p}/x",
    ),
    (
        "no Parquet, by DuckDB",
        lambda p: query(f"SELECT * FROM read_parquet('{p}/none.parquet')"),
        NotFoundError,
        "no such file: {p}/none.parquet; ",
    ),
    (
        "a full disk, by DuckDB",
        lambda _: query("COPY (SELECT * FROM range(100000)) TO '/dev/full' (FORMAT csv, USE_TMP_FILE false)"),
        UnavailableError,
        "no space left on the disk of /dev/full; make room",
    ),
    (
        "a directory that is not there, by DuckDB",
        lambda p: query(f"COPY (SELECT 1) TO '{p}/none/x.parquet'"),
        NotFoundError,
        "no such file or directory: {p}/none/x.parquet; ",
    ),
    ("a value, by DuckDB", lambda _: query("SELECT 1e300::FLOAT"), DataError, "Type DOUBLE with value 1e+300 can't be"),
    (
        "memory, by DuckDB",
        lambda _: query(
            "SET memory_limit='5MB'; SET temp_directory=''; SELECT list(i::VARCHAR) FROM range(9000000) t(i)"
        ),
        UnavailableError,
        "not enough memory, or room for temporary files: ",
    ),
    (
        "SQLite's directory",
        lambda p: sqlalchemy.create_engine(f"sqlite:///{p}/none/x.db").connect(),
        UnavailableError,
        "unable to open database file; check the URL",
    ),
    ("no database", not_a_database, CorruptError, "file is not a database; "),
    ("a database that is read-only", readonly_database, UnavailableError, "is on a read-only file system; "),
    ("a database that is locked", locked_database, UnavailableError, "database is locked; check the URL"),
    ("a database without room", full_database, UnavailableError, "no space left on the disk of /the/workspace; "),
    (
        "no server",
        lambda _: sqlalchemy.create_engine("postgresql+psycopg://u:secret@127.0.0.1:1/x").connect(),
        UnavailableError,
        "connection refused",
    ),
    ("no Redis", lambda _: redis.Redis(port=1).ping(), UnavailableError, "connection refused; check the address"),
    ("weights", damaged_weights, CorruptError, "it holds no weights that can be read: "),
    ("code among the weights", pickled, CorruptError, "it holds no weights that can be read: "),
    (
        "torch's directory",
        lambda p: torch.save(1, p / "none" / "x"),
        NotFoundError,
        "no such file or directory: {p}/none",
    ),
    ("torch's memory", lambda _: torch.zeros(1 << 50), UnavailableError, "this machine has not enough memory"),
]


@pytest.mark.parametrize(("fail", "kind", "says"), [k[1:] for k in KNOWN], ids=[k[0] for k in KNOWN])
def test_known_failures(fail: Fail, kind: type[RfError], says: str, tmp_path: Path) -> None:
    error = as_rf_error(raised(lambda: fail(tmp_path)), place="/the/workspace")
    assert isinstance(error, kind)
    said = str(error)
    assert says.replace("{p}", str(tmp_path)) in said
    for raw in ("\n", "LINE 1", "SELECT", "Error:", "Errno", "sqlalche.me", "secret", "{place}"):
        assert raw not in said
    assert len(said.split("; ")) >= 2  # what, and what to do


class Wanted(pydantic.BaseModel):
    """Some file's content."""

    a: int


CONTENTS: list[tuple[Callable[[], Any], type[RfError], str]] = [
    (lambda: b"ab\xff".decode(), CorruptError, "it is no UTF-8 text (byte 0xff at 2); "),
    (lambda: json.loads("{"), CorruptError, "it is no JSON: Expecting property name"),
    (lambda: Wanted.model_validate({"a": "x"}), ConfigError, "a: Input should be a valid integer"),
]


@pytest.mark.parametrize(("fail", "kind", "says"), CONTENTS)
def test_a_content_is_wrong_only_where_it_is_read(fail: Callable[[], Any], kind: type[RfError], says: str) -> None:
    error = raised(fail)
    assert as_rf_error(error, place="/the/workspace") is None
    with pytest.raises(kind, match=f"^/the/file: {re.escape(says)}"), translated("/the/file"):
        raise error


def test_what_a_terminal_cannot_show_is_no_content() -> None:
    told = as_rf_error(raised(lambda: "\u2713".encode("ascii")))
    assert isinstance(told, ConfigError)
    assert "PYTHONUTF8=1" in str(told)


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), False),
        (redis.ResponseError("ERR unknown command 'SELEC'"), False),
        (redis.DataError("Invalid input of type: 'dict'"), False),
        (redis.exceptions.LockNotOwnedError("not owned"), False),  # type: ignore[no-untyped-call]
        (redis.ResponseError("MISCONF Redis is configured to save RDB snapshots, but cannot persist on disk"), True),
        (redis.ResponseError("BUSY Redis is busy running a script"), True),
        (redis.ResponseError("BUSYGROUP Consumer Group name already exists"), False),
        (redis.BusyLoadingError("Redis is loading the dataset in memory"), True),
        (redis.ReadOnlyError("You can't write against a read only replica."), True),
        (redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), True),
        (redis.AuthenticationError("invalid username-password pair or user is disabled."), True),
        (redis.TimeoutError("Timeout reading from socket"), True),
        (ort.InvalidArgument("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got: 1 Expected: 2"), False),
        (ort.RuntimeException("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code"), False),
        (ort.RuntimeException("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : out of memory"), True),
        (ort.InvalidProtobuf("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Protobuf parsing failed."), True),
        (OSError(errno.EBADF, os.strerror(errno.EBADF)), False),
        (OSError(errno.EINVAL, os.strerror(errno.EINVAL)), False),
        (ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD)), False),
        (OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK)), False),
        (OSError(errno.EBUSY, os.strerror(errno.EBUSY)), True),
        (HTTPError("http://x", 404, "Not Found", Message(), None), False),
        (OSError("text"), False),
        (OSError("Couldn't deserialize thrift: TProtocolException: Invalid data"), True),  # as Arrow raises it
        (OSError("Error writing bytes to file: No space left on device"), True),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_classes_of_libraries_tell_failures_from_bugs(error: Exception, known: bool) -> None:
    assert (as_rf_error(error) is not None) == known
    if not known:
        with pytest.raises(type(error)), translated("doing something"):
            raise error


def test_an_error_of_the_system_without_a_number_tells_of_the_file_that_is_read() -> None:
    said = {OSError("text"): "OSError: text", OSError(errno.EINVAL, "Invalid argument"): "it is cut short, or damaged"}
    for error, text in said.items():
        with pytest.raises(CorruptError, match=rf"^/a/b cannot be read: {text}; restore"), reading("/a/b"):
            raise error
    with pytest.raises(OSError, match="Bad file descriptor"), reading("/a/b"):
        os.fstat(-1)


BUGS: list[Callable[[], Any]] = [
    lambda: dict[str, int]()["x"],
    lambda: None.x,  # type: ignore[attr-defined]
    lambda: int("x"),
    lambda: query("SELECT * FROM nothing"),
    lambda: query("SELEC"),
    lambda: query("SELECT x FROM range(3)"),
    lambda: pa.array([1, "a"]),
    lambda: torch.zeros(2, 3) @ torch.zeros(2, 3),
    lambda: (
        sqlite3.connect(":memory:")
        .execute("CREATE TABLE x (a PRIMARY KEY, b CHECK (b > 1))")
        .execute("INSERT INTO x VALUES (1, 0)")
    ),
    *(lambda sql=sql: sqlite3.connect(":memory:").execute(sql) for sql in ("SELEC", "SELECT * FROM x", "SELECT x")),
    lambda: sqlalchemy.create_engine("sqlite://").connect().exec_driver_sql("SELECT * FROM nothing"),
    lambda: sqlite3.connect(":memory:").execute("SELECT ?", (object(),)),
    lambda: next(iter(())),
]


@pytest.mark.parametrize("fail", BUGS)
def test_bugs_are_no_failures(fail: Callable[[], Any]) -> None:
    error = raised(fail)
    assert as_rf_error(error) is None
    with pytest.raises(type(error)), translated("anything"):
        raise error


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "no space left on the disk of /a/b"),
        (errno.EDQUOT, "the disk quota is used up on the disk of /a/b"),
        (errno.EROFS, "/a/b is on a read-only file system"),
        (errno.EACCES, "permission denied: /a/b"),
        (errno.EMFILE, "too many open files, the last is /a/b"),
        (errno.EIO, "input/output error on the disk of /a/b"),
    ],
)
def test_the_machine_is_at_fault_whatever_was_done(number: int, says: str) -> None:
    """By number, by the words of a library, and inside blocks that have a kind and a remedy of their own."""
    for error in (
        OSError(number, os.strerror(number), "/a/b"),
        duckdb.IOException(f'IO Error: "/a/b": {os.strerror(number)}'),
    ):
        for block in (reading("/c"), writing("/c"), translated("doing", "another remedy", RunError)):
            with pytest.raises(UnavailableError, match=f"^{says}; ") as told, block:
                raise error
            assert "another remedy" not in str(told.value)


def test_what_reads_a_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}')
    assert read_json(path) == {"a": 1}
    for content, why in ((b"", "it is no JSON"), (b"\xff\xfe", "it is no UTF-8 text"), (b'{"a":', "it is no JSON")):
        path.write_bytes(content)
        with pytest.raises(CorruptError, match=f"^{path} cannot be read: {why}.*; import again$"):
            read_json(path, "import again")
    for path_of_another_kind, why in ((tmp_path, "is a directory"), (tmp_path / "none", "no such file")):
        with pytest.raises(CorruptError, match=why):
            read_json(path_of_another_kind)
    with pytest.raises(CorruptError, match=f"^{path} cannot be read: KeyError: 'b'; "), reading(path):
        dict[str, int]()["b"]
    with pytest.raises(CorruptError, match=f"^{path} cannot be read: ValueError: .*; again"), reading(path, "again"):
        np.load(path, allow_pickle=False)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("", "ValueError"),
        ("  \n one \n two", "one"),
        ("Errors in X:\n\n\tMissing: a.b\n\tMore: c", "Errors in X: Missing: a.b"),
        ("alone:", "alone:"),
    ],
)
def test_first_lines_tell_what_is_wrong(said: str, line: str) -> None:
    assert first_line(ValueError(said)) == line
    assert summary(ValueError(said)) == ("ValueError: " + (line if said else "no message"))


def test_a_first_line_stays_short() -> None:
    assert len(first_line(RuntimeError("Missing:\n" + "key " * 1000))) <= 400


def test_a_database_on_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = sqlite3.OperationalError("disk I/O error")
    told = as_rf_error(failed, place=tmp_path / "registry.db")
    assert told is not None
    assert "input/output error" in str(told)
    monkeypatch.setattr(system, "disk_usage", lambda _: SimpleNamespace(free=0))
    told = as_rf_error(failed, place=tmp_path / "registry.db")
    assert told is not None
    assert str(told).startswith(f"no space left on the disk of {tmp_path / 'registry.db'}; make room")
