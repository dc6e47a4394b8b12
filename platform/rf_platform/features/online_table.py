"""Tables and file of an online store, asked of the engine: reading what is not there fails as a store that is down does."""

import os
from typing import TYPE_CHECKING, Any

from rf_platform.sql import identifier

if TYPE_CHECKING:
    from feast import FeatureView, RepoConfig


def table_name(config: "RepoConfig", view: "FeatureView") -> str:
    """Return the name of a view's table, quoted, as Feast 0.67 forms it."""
    from feast.infra.online_stores.helpers import compute_table_id

    return identifier(compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning))


def has_table(config: "RepoConfig", online: Any, view: "FeatureView") -> bool:
    """Return whether there is a table; of a store that has none, Redis for one, true. Each store raises errors of its own."""
    match config.online_store.type:
        case "sqlite":
            query = f"PRAGMA table_info({table_name(config, view)})"
            return online._get_conn(config).execute(query).fetchone() is not None
        case "postgres":
            with online._get_conn(config, autocommit=True) as connection:
                return (
                    connection.execute("SELECT to_regclass(%s)", [table_name(config, view)]).fetchone()[0] is not None
                )
        case _:
            return True


class StoreFile:
    """File of an online store, told from another that takes its place: an open connection goes on with the old one."""

    def __init__(self, config: "RepoConfig") -> None:
        """Resolve the path; a store that is no file has none."""
        self._path: str | None = None
        if config.online_store.type == "sqlite":
            from feast.infra.online_stores.sqlite import SqliteOnlineStore

            self._path = SqliteOnlineStore._get_db_path(config)

    @property
    def identity(self) -> tuple[int, int] | None:
        """Device and inode of the file: take them before a connection is opened. None: there is no file."""
        if self._path is None:
            return None
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino
