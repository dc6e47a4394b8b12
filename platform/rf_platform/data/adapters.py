"""The sources ``rf data import`` knows."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rf_platform.data.amazon import NAMES as AMAZON
from rf_platform.data.amazon import amazon
from rf_platform.data.custom import custom
from rf_platform.data.movielens_1m import NAME as MOVIELENS_1M
from rf_platform.data.movielens_1m import movielens_1m
from rf_platform.data.movielens_100k import NAME as MOVIELENS_100K
from rf_platform.data.movielens_100k import movielens_100k
from rf_platform.data.specs import SourceSpec
from rf_platform.errors import ConfigError, NotFoundError, UsageError

CUSTOM = "custom"
SHIPPED: dict[str, Callable[[Path | None, Path], SourceSpec]] = {
    MOVIELENS_100K: movielens_100k,
    MOVIELENS_1M: movielens_1m,
    **{name: partial(amazon, name) for name in AMAZON},
}
SOURCES = (*SHIPPED, CUSTOM)


@dataclass(frozen=True, kw_only=True)
class Request:
    """Arguments of an import: source, path and mapping file."""

    source: str
    path: Path | None = None
    mapping: Path | None = None


def read_source(request: Request, scratch: Path) -> SourceSpec:
    """Return the source specification of the adapter for its files; archives are unpacked below ``scratch``.

    Raises:
        NotFoundError: there is no such source, or its files are not there.
        UsageError: an argument is missing or does not belong to the source.
        ConfigError: the mapping is wrong.
    """
    if request.source == CUSTOM:
        spec = custom(request.path, scratch, request.mapping)
        if spec.name in SHIPPED:
            raise ConfigError(
                f"{request.mapping}: the name {spec.name!r} belongs to a source of its own; choose another name"
            )
        return spec
    if request.source not in SHIPPED:
        raise NotFoundError(f"no source {request.source!r}; known are {', '.join(SOURCES)}")
    if request.mapping is not None:
        raise UsageError(f"--mapping is for the source 'custom'; {request.source} has its own columns")
    return SHIPPED[request.source](request.path, scratch)
