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
from urllib.parse import parse_qs, urlsplit

import yaml

from rf_platform.errors import ConfigError, NotFoundError
from rf_platform.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore, RepoConfig

_SHIPPED = ("movielens", "amazon")


def find_repository(settings: Settings) -> Path:
    """Return the Feast repository of a workspace: ``RF_FEATURE_REPO``, or the one recorded when tables were imported.

    Raises:
        NotFoundError: neither names a directory with a ``feature_store.yaml``.
    """
    candidates = [settings.feature_repo] if settings.feature_repo else []
    record = settings.workspace.tables / "import.json"
    if not candidates and record.exists():
        name = json.loads(record.read_text()).get("feature_repo")
        if name in _SHIPPED:
            candidates = [Path("feature_repo") / name, Path(__file__).parents[3] / "feature_repo" / name]
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
    try:
        raw: dict[str, Any] = yaml.safe_load(os.path.expandvars(path.read_text()))
        config = {
            **raw,
            "registry": _registry(raw.get("registry"), settings),
            "online_store": _online_store(raw.get("online_store"), settings),
        }
        result = RepoConfig(**config)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is not a valid Feast configuration: {error}") from error
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
        settings.workspace.feast.mkdir(parents=True, exist_ok=True)
        section["path"] = f"sqlite:///{settings.workspace.feast / 'registry.db'}"
    return section


def _online_store(given: Any, settings: Settings) -> dict[str, Any]:
    section: dict[str, Any] = dict(given or {"type": "sqlite"})
    url = settings.online_store_url
    if not url:
        if section.get("type") == "sqlite" and "path" not in section:
            settings.workspace.feast.mkdir(parents=True, exist_ok=True)
            section["path"] = str(settings.workspace.feast / "online.db")
        return section
    parts = urlsplit(url)
    if parts.scheme in ("redis", "rediss"):
        options = [f"{parts.hostname}:{parts.port or 6379}", f"db={parts.path.strip('/') or 0}"]
        options += [f"username={parts.username}"] if parts.username else []
        options += [f"password={parts.password}"] if parts.password else []
        options += ["ssl=true"] if parts.scheme == "rediss" else []
        return {"type": "redis", "connection_string": ",".join(options)}
    if parts.scheme.startswith("postgres"):
        return {
            "type": "postgres",
            "host": parts.hostname,
            "port": parts.port or 5432,
            "database": parts.path.strip("/") or "postgres",
            "user": parts.username or "postgres",
            "password": parts.password or "",
            # Feast's default, `require`, refuses servers without TLS.
            "sslmode": parse_qs(parts.query).get("sslmode", ["prefer"])[0],
        }
    raise ConfigError(f"RF_ONLINE_STORE_URL={url!r} is neither redis://, rediss:// nor postgresql://")


def open_store(settings: Settings) -> "FeatureStore":
    """Open the workspace's feature store.

    Raises:
        ConfigError: the configuration is wrong or an engine cannot be reached.
    """
    config = repo_config(settings)
    from feast import FeatureStore

    os.environ["RF_TABLES"] = str(settings.workspace.tables)
    try:
        return FeatureStore(config=config)
    except Exception as error:  # engines raise their own classes; the user needs to know which one is at fault
        raise ConfigError(f"cannot open the feature store of {config.repo_path}: {first_line(error)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Swallow what Feast and Ibis print and warn about on every call; failures still come as exceptions."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def first_line(error: Exception) -> str:
    """Return class and first line of somebody else's exception, for use inside a message of ours."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
