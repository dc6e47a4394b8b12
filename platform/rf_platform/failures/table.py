"""The table: classes of exceptions by name, and what each of them means."""

from collections.abc import Callable, Mapping
from typing import Any

from rf_platform.errors import UnavailableError
from rf_platform.failures import databases, files, models, system
from rf_platform.failures.failure import Failure

Rule = Callable[[Any], Failure | None]
"""Returns the failure behind an exception, or None for a bug."""


def _of_driver(error: Any) -> Failure | None:
    """Return the failure behind what SQLAlchemy wraps."""
    return None if error.orig is None else failure_of(error.orig)


def _of_pool(error: Any) -> Failure:
    return Failure(kind=UnavailableError, what=system.first_line(error), remedy="try again when less is going on")


def _of_os_error(error: Any) -> Failure | None:
    """Return the failure behind an ``OSError``, also one that Arrow raises of a damaged file."""
    return system.of_os_error(error) or (files.of_arrow(error) if error.errno is None else None)


_REDIS_DOWN = (
    "ConnectionError",
    "TimeoutError",
    "InvalidResponse",
    "OutOfMemoryError",
    "ReadOnlyError",
    "NoPermissionError",
    "AuthenticationWrongNumberOfArgsError",
    "ClusterDownError",
    "TryAgainError",
    "RedisClusterException",
)
"""Classes of what a Redis cannot do now, or not for this user; those of refused logins and of loading are connection errors."""
_ONNX = "onnxruntime.capi.onnxruntime_pybind11_state"
_RULES: Mapping[str, Rule] = {
    "builtins.OSError": _of_os_error,
    "socket.gaierror": system.of_connection,
    "builtins.MemoryError": system.of_memory,
    "builtins.UnicodeError": system.of_text,
    "builtins.RuntimeError": models.of_runtime,
    "builtins.NotImplementedError": lambda _: None,
    "builtins.RecursionError": lambda _: None,
    "_duckdb.Error": files.of_duckdb,
    "duckdb.duckdb.Error": files.of_duckdb,
    "pyarrow.lib.ArrowException": files.of_arrow,
    "json.decoder.JSONDecodeError": files.of_json,
    "yaml.error.YAMLError": files.of_yaml,
    "pydantic_core._pydantic_core.ValidationError": files.of_validation,
    "zipfile.BadZipFile": files.of_archive,
    "tarfile.TarError": files.of_archive,
    "gzip.BadGzipFile": files.of_archive,
    "zlib.error": files.of_archive,
    "_lzma.LZMAError": files.of_archive,
    "sqlite3.OperationalError": databases.of_sqlite_use,
    "sqlite3.DatabaseError": databases.of_sqlite,
    "psycopg.OperationalError": databases.unavailable,
    "psycopg.InterfaceError": databases.unavailable,
    "psycopg.errors.InsufficientPrivilege": databases.unavailable,
    "psycopg.errors.ReadOnlySqlTransaction": databases.unavailable,
    **{f"redis.exceptions.{name}": databases.unavailable for name in _REDIS_DOWN},
    "redis.exceptions.ResponseError": databases.of_redis,
    "sqlalchemy.exc.DBAPIError": _of_driver,
    "sqlalchemy.exc.TimeoutError": _of_pool,
    "alembic.util.exc.CommandError": databases.of_alembic,
    "feast.errors": databases.of_feast,
    "torch.OutOfMemoryError": models.of_device_memory,
    "_pickle.PickleError": models.of_torch_file,
    "pickle.PickleError": models.of_torch_file,
    "safetensors._safetensors_rust.SafetensorError": models.of_torch_file,
    "safetensors_rust.SafetensorError": models.of_torch_file,
    **{f"{_ONNX}.{name}": models.of_onnx for name in ("NoSuchFile", "InvalidProtobuf", "InvalidGraph", "Fail")},
    f"{_ONNX}.RuntimeException": models.of_onnx_run,
}
"""Rules by class, as ``module.Class``, or by module for all classes in it; that of the nearest base class decides.

A whole module only where each of its classes tells of what the library was given: a rule too many hides a bug.
"""


def failure_of(error: BaseException) -> Failure | None:
    """Return what failed, or None if the exception is a bug."""
    for base in type(error).__mro__:
        rule = _RULES.get(f"{base.__module__}.{base.__qualname__}") or _RULES.get(base.__module__)
        if rule is not None:
            return rule(error)
    return None
