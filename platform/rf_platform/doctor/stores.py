"""Checks of the platform's registry, Feast's registry and the online store. None of them creates or upgrades anything."""

from sqlalchemy import make_url

from rf_platform.doctor.check import Finding, fail, ok, warn
from rf_platform.doctor.reach import online_store_url, problem_of, without_password
from rf_platform.errors import NotFoundError
from rf_platform.registry import Registry, features_now
from rf_platform.registry.engine import database_file, explained, make_engine, parse_url
from rf_platform.registry.schema import revision, state
from rf_platform.settings import Settings

_REGISTRY_REMEDY = "check RF_REGISTRY_URL and the server; a damaged file: restore it from a copy, or move it away"
_ONLINE_REMEDY = "check RF_ONLINE_STORE_URL and the server; a damaged file: delete it and run `rf features materialize`"
_FEAST_REMEDY = "check RF_FEAST_REGISTRY_URL and the server; a damaged file: delete it and run `rf features apply`"


def check_registry(settings: Settings) -> Finding:
    """Is the platform's registry reachable, and are its tables up to date?"""
    url = parse_url(settings.platform_registry_url)
    where = url.render_as_string()
    file = database_file(url)
    if file is not None and not file.exists():
        return warn(f"no registry at {where} yet", "the first command that records something creates it")
    if problem := problem_of(settings.platform_registry_url):
        return fail(f"{where}: {problem}", _REGISTRY_REMEDY)
    with explained(url), make_engine(url).connect() as connection:
        current = revision(connection)
    match state(current):
        case "current":
            return ok(f"{where}, schema revision {current}")
        case "newer":
            return fail(
                f"{where} has schema revision {current}, which this version does not know",
                "upgrade this installation, or point RF_REGISTRY_URL at another database",
            )
        case _:
            return warn(
                f"{where} has no up-to-date tables yet", "the next command that uses it creates or upgrades them"
            )


def existing_registry(settings: Settings) -> Registry | None:
    """Open the platform's registry without changing it, or return None if it has no up-to-date tables."""
    url = parse_url(settings.platform_registry_url)
    file = database_file(url)
    if file is not None and not file.exists():
        return None
    engine = make_engine(url)
    with explained(url), engine.connect() as connection:
        if state(revision(connection)) != "current":
            return None
    return Registry(engine, settings.workspace.root)


def check_feature_registry(settings: Settings) -> Finding:
    """Can Feast's registry be read, and is the feature service in it usable?"""
    from rf_platform.features.store import repo_config

    if _no_repository(settings):
        return warn("no Feast repository yet", "`rf data import`, or set RF_FEATURE_REPO")
    path = str(repo_config(settings).registry.path)
    if "://" in path:
        file = database_file(make_url(path))
        if file is not None and not file.exists():
            return warn(f"no feature registry at {file} yet", "`rf features apply`")
        if problem := problem_of(path):
            return fail(f"{without_password(path)}: {problem}", _FEAST_REMEDY)
    spec = features_now(settings)
    views = len({field.view for field in spec.fields})
    return ok(f"service '{spec.service}': {len(spec.fields)} fields of {views} views, spec {spec.hash[:12]}")


def check_online_store(settings: Settings) -> Finding:
    """Check that the online store answers."""
    if settings.online_store_url:
        url = settings.online_store_url
    elif _no_repository(settings):
        return warn("no online store yet", "`rf data import`, `rf features apply` and `rf features materialize`")
    else:
        from rf_platform.features.store import repo_config

        url = online_store_url(repo_config(settings))
    where = without_password(url)
    if url.startswith("sqlite"):
        file = database_file(make_url(url))
        if file is None or not file.exists():
            return warn(f"no online store at {file} yet", "`rf features materialize`")
    if problem := problem_of(url):
        return fail(f"{where}: {problem}", _ONLINE_REMEDY)
    return ok(where)


def _no_repository(settings: Settings) -> bool:
    """Is it too early for a Feast repository? A missing one later on is an error, and raised."""
    from rf_platform.features.store import find_repository

    try:
        find_repository(settings)
    except NotFoundError:
        if settings.feature_repo is not None or settings.workspace.tables.is_dir():
            raise
        return True
    return False
