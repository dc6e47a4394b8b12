"""Open the Feast store of a workspace.

Feast's own ``feature_store.yaml`` decides; what it leaves out is filled in from the workspace, and ``RF_FEAST_REGISTRY_URL`` and
``RF_ONLINE_STORE_URL`` override it. Importing Feast takes seconds: hold one store per process.
"""

import json
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import yaml

from rf_platform.errors import ConfigError, NotFoundError
from rf_platform.failures import read_json, reading, translated
from rf_platform.redaction import without_password
from rf_platform.settings import Settings
from rf_platform.sql import sqlite_url

if TYPE_CHECKING:
    from feast import FeatureStore, RepoConfig

_SHIPPED = ("movielens", "amazon", "synthetic")
_SHIPPED_IN = (Path("feature_repo"), *(Path(__file__).parents[above] / "feature_repo" for above in (1, 3)))
"""Directories of the shipped repositories: the current one, to be edited there; that of an installed package; the checkout."""
TABLES = "rf_tables"
"""Path of the workspace's tables: a key of the store's configuration, and a tag of the project in the registry."""


def find_repository(settings: Settings) -> Path:
    """Return the Feast repository of a workspace: ``RF_FEATURE_REPO``, or the one recorded when tables were imported.

    Raises:
        NotFoundError: neither names a directory with a ``feature_store.yaml``.
    """
    candidates = [settings.feature_repo] if settings.feature_repo else []
    record = settings.workspace.tables / "import.json"
    if not candidates and record.exists():
        name = read_json(record, "import again").get("feature_repo")
        if name in _SHIPPED:
            candidates = [place / name for place in _SHIPPED_IN]
    for path in candidates:
        if (path / "feature_store.yaml").is_file():
            return path.resolve()
    looked = (
        f"looked in {', '.join(str(c) for c in candidates)}" if candidates else "no import recorded in the workspace"
    )
    raise NotFoundError(
        f"no Feast repository found for workspace {settings.workspace.root} ({looked}); set RF_FEATURE_REPO to a directory with "
        f"a feature_store.yaml, or write one with `rf data init-repo`"
    )


def repo_config(settings: Settings) -> "RepoConfig":
    """Read ``feature_store.yaml`` and fill in the workspace's registry and stores.

    Raises:
        ConfigError: the file or a URL cannot be understood.
    """
    from feast import RepoConfig

    repository = find_repository(settings)
    path = repository / "feature_store.yaml"
    url = _parts(settings.online_store_url) if settings.online_store_url else None
    with reading(path, "correct it", ConfigError):
        raw: dict[str, Any] = dict(yaml.safe_load(os.path.expandvars(path.read_text(encoding="utf-8"))))
        config = {
            **raw,
            "registry": _registry(raw.get("registry"), settings),
            "online_store": _from_url(url) if url else _online_store(raw.get("online_store"), settings),
            TABLES: str(settings.workspace.tables),
        }
        result = RepoConfig(**config)
    result.repo_path = repository
    return result


def _registry(given: Any, settings: Settings) -> dict[str, Any]:
    section: dict[str, Any] = {"path": given} if isinstance(given, str) else dict(given or {})
    section.setdefault("registry_type", "sql")
    if settings.feast_registry_url:
        # SQLAlchemy reads a bare postgresql:// as psycopg2, which is not what Feast installs.
        url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", settings.feast_registry_url)
        section |= {"registry_type": "sql", "path": url}
    elif "path" not in section:
        section["path"] = sqlite_url(settings.workspace.feast / "registry.db")
    return section


def _online_store(given: Any, settings: Settings) -> dict[str, Any]:
    section: dict[str, Any] = dict(given or {"type": "sqlite"})
    if section.get("type") == "sqlite" and "path" not in section:
        section["path"] = str(settings.workspace.feast / "online.db")
    return section


def _parts(url: str) -> SplitResult:
    """Take ``RF_ONLINE_STORE_URL`` apart; its messages leave out user and password."""
    try:
        parts = urlsplit(url)
        shown = url.replace(f"{parts.netloc.rpartition('@')[0]}@", "", 1)
        _ = parts.port
    except ValueError as error:
        raise ConfigError(
            "RF_ONLINE_STORE_URL is not a URL of an online store: its host or port cannot be read; write special characters of "
            "user and password with percent signs, such as %40 for @"
        ) from error
    if parts.scheme not in ("redis", "rediss", "postgres", "postgresql"):
        raise ConfigError(f"RF_ONLINE_STORE_URL={shown!r} is neither redis://, rediss:// nor postgresql://")
    if not parts.hostname:
        raise ConfigError(f"RF_ONLINE_STORE_URL={shown!r} names no host; write {parts.scheme}://host:port/database")
    return parts


def _from_url(parts: SplitResult) -> dict[str, Any]:
    user, password, database = (unquote(text or "") for text in (parts.username, parts.password, parts.path.strip("/")))
    if parts.scheme in ("redis", "rediss"):
        options = [f"{parts.hostname}:{parts.port or 6379}", f"db={database or 0}"]
        options += [f"username={_option(user)}"] if user else []
        options += [f"password={_option(password)}"] if password else []
        options += ["ssl=true"] if parts.scheme == "rediss" else []
        return {"type": "redis", "connection_string": ",".join(options)}
    return {
        "type": "postgres",
        "host": parts.hostname,
        "port": parts.port or 5432,
        "database": database or "postgres",
        "user": user or "postgres",
        "password": password,
        # Feast's default, `require`, refuses servers without TLS.
        "sslmode": parse_qs(parts.query).get("sslmode", ["prefer"])[0],
    }


def _option(text: str) -> str:
    """Return a value of Feast's comma-separated Redis options, which it reads as JSON where that is possible."""
    if "," in text:
        raise ConfigError(
            "RF_ONLINE_STORE_URL has a comma in its user or password, which Feast's Redis store cannot take"
        )
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return text
    return json.dumps(text)


def open_store(settings: Settings) -> "FeatureStore":
    """Open the workspace's feature store.

    Raises:
        ConfigError: the configuration is wrong or an engine cannot be reached.
    """
    config = repo_config(settings)
    from feast import FeatureStore

    if not (settings.feast_registry_url and settings.online_store_url):
        settings.workspace.check_exists()
        settings.workspace.feast.mkdir(parents=True, exist_ok=True)

    os.environ["RF_TABLES"] = str(settings.workspace.tables)
    remedy = "check RF_FEAST_REGISTRY_URL and RF_ONLINE_STORE_URL; if the workspace was moved, run `rf features apply`"
    with translated(
        f"cannot open the feature store of {config.repo_path} with the registry {_named(str(config.registry.path))}",
        remedy,
        ConfigError,
        place=settings.workspace.feast,
        packages=("feast", "sqlalchemy"),
    ):
        store = FeatureStore(config=config)
        _ = store.registry  # opened here and not with the first question, for the message above
        return store


def _named(registry: str) -> str:
    """Return the path or URL of a registry without its password."""
    return without_password(registry)


@contextmanager
def quiet() -> Iterator[None]:
    """Swallow what Feast and Ibis print and warn about on every call; failures still come as exceptions."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
