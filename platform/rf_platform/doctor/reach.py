"""Ask an engine whether it is there: SQLite files, PostgreSQL and Redis, by URL and within seconds."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, make_url

from rf_platform.errors import ConfigError
from rf_platform.failures import first_line
from rf_platform.redaction import without_password
from rf_platform.sql import sqlite_url

_QUICK_CHECK_BYTES = 256 << 20
"""Larger SQLite files are opened only: reading them through would take too long."""


def problem_of(url: str, seconds: int = 5) -> str | None:
    """Return what is wrong with an engine in one line, or None if it answers.

    Args:
        url: ``sqlite:///``, ``postgresql://`` (with or without a driver), ``redis://`` or ``rediss://``.
        seconds: how long a server may take to answer.

    Raises:
        ConfigError: the URL names another engine.
    """
    scheme = re.split(r"[+:]", url, maxsplit=1)[0]
    if scheme == "sqlite":
        return _sqlite(Path(str(make_url(url).database)))
    if scheme in ("postgres", "postgresql"):
        return _postgres(make_url(url), seconds)
    if scheme in ("redis", "rediss"):
        return _redis(url, seconds)
    raise ConfigError(
        f"{without_password(url)} names an engine this check does not know; use sqlite, postgresql or redis"
    )


def _sqlite(file: Path) -> str | None:
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file.resolve()))}?mode=ro", uri=True)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if file.stat().st_size > _QUICK_CHECK_BYTES:
                return None
            text = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except (sqlite3.Error, OSError) as error:
        return str(error)
    return None if text == "ok" else f"damaged: {text}"


def _postgres(url: URL, seconds: int) -> str | None:
    import psycopg

    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        with psycopg.connect(address, connect_timeout=seconds) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        return first_line(error)
    return None


def _redis(url: str, seconds: int) -> str | None:
    import redis

    try:
        with closing(redis.Redis.from_url(url, socket_connect_timeout=seconds, socket_timeout=seconds)) as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        return first_line(error)
    return None


def online_store_url(config: Any) -> str:
    """Return the URL of the online store that a Feast ``RepoConfig`` names.

    Raises:
        ConfigError: it is of a kind this check does not know.
    """
    section = config.online_store
    match section.type:
        case "sqlite":
            return sqlite_url(Path(str(config.repo_path or ".")) / section.path)
        case "redis":
            first, *options = str(section.connection_string).split(",")
            named = dict(option.split("=", 1) for option in options if "=" in option)
            user, password = (quote(named.get(key, ""), safe="") for key in ("username", "password"))
            login = f"{user}:{password}@" if password else ""
            scheme = "rediss" if named.get("ssl", "").lower() == "true" else "redis"
            return f"{scheme}://{login}{first}/{named.get('db', 0)}"
        case "postgres":
            return URL.create(
                "postgresql", section.user, section.password or None, section.host, section.port, section.database
            ).render_as_string(hide_password=False)
        case other:
            raise ConfigError(
                f"the online store is of type '{other}', which this check does not know; look at it yourself"
            )
