"""Register the definitions of a Feast repository: what ``feast apply`` does, inside this process."""

import importlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from rf_platform.errors import ConfigError, RfError
from rf_platform.failures import as_rf_error, origin, summary
from rf_platform.features.meanings import check_meaning_columns
from rf_platform.features.read import FeatureDefinitions, parse_definitions, read_definitions
from rf_platform.features.sources import describe
from rf_platform.features.spec import FeatureSpec
from rf_platform.features.store import TABLES, open_store, quiet, repo_config
from rf_platform.features.supported import check_tables
from rf_platform.interrupts import held, raise_if_received
from rf_platform.locks import locked
from rf_platform.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Applied:
    """Names registered after an apply."""

    entities: list[str]
    feature_views: list[str]
    feature_services: list[str]
    definitions: FeatureDefinitions


def apply_definitions(settings: Settings) -> Applied:
    """Register all definitions of the repository and drop registered ones that it no longer has.

    The feature service is read back at once, so that a definition the model cannot use is refused here and not at training.

    Raises:
        ConfigError: a definition file does not load, or a field cannot be used; the message names file, view or field.
    """
    settings.workspace.feast.mkdir(parents=True, exist_ok=True)
    with locked(settings.workspace.feast):  # a second one waits
        return _apply(settings)


def _apply(settings: Settings) -> Applied:
    _forget_infrastructure(settings)
    store = open_store(settings)
    from feast import Project
    from feast.repo_operations import extract_objects_for_apply_delete, parse_repo

    repository = Path(str(store.config.repo_path))
    try:
        with _importing(repository), quiet():
            contents = parse_repo(repository)
            if not contents.projects:
                contents.projects.append(Project(name=store.project))
            for project in contents.projects:
                project.tags = {**project.tags, TABLES: str(settings.workspace.tables)}
            # Refused before it is registered: servers read this registry. What Feast finds out by itself when it registers
            # (schemas, features that are named as text) is found out first.
            store._make_inferences(
                contents.data_sources,
                contents.entities,
                contents.feature_views,
                contents.on_demand_feature_views,
                contents.stream_feature_views,
                contents.feature_services,
            )
            parsed = parse_definitions(
                store.project,
                contents.entities,
                contents.feature_views,
                contents.feature_services,
                settings.feature_service,
                repository,
            )
            check_tables(store.config.online_store.type, store.project, [source.view for source in parsed.sources])
            _check_meanings(parsed.spec, settings.workspace.tables / "interactions.parquet")
            # As `feast apply` does for every online store but SQLite, for which it would keep the absolute path of the
            # database, and open and drop tables there when the workspace is a copy of another one. Feast's check of the
            # sources is left out: history arrays are written later, and materialisation checks with better messages.
            wanted, unwanted, _, _ = extract_objects_for_apply_delete(store.project, store.registry, contents)
            with held():  # Feast has no transaction over all of it: an interrupt waits until they belong together
                store.apply(wanted, objects_to_delete=unwanted, partial=False)
    except RfError:
        raise
    except Exception as error:  # definition files are the user's code: anything can come out of them
        raise_if_received()
        about = f"the definitions in {repository} cannot be applied"
        known = as_rf_error(error, about=about, place=settings.workspace.feast, kind=ConfigError)
        if known is None and origin(error).startswith("rf_"):
            raise
        raise known or ConfigError(f"{about}: {_place(error, repository)}{summary(error)}") from error
    store.refresh_registry()
    return Applied(
        entities=sorted(e.name for e in store.list_entities()),
        feature_views=sorted(v.name for v in store.list_feature_views()),
        feature_services=sorted(s.name for s in store.list_feature_services()),
        definitions=read_definitions(store, settings.feature_service),
    )


def _check_meanings(spec: FeatureSpec, interactions: Path) -> None:
    """Check that the imported log, if there is one, has what the meanings of events are about."""
    if spec.meanings and interactions.exists():
        with duckdb.connect() as db:
            columns = describe(db, str(interactions), "the interaction log")
        check_meaning_columns(spec.meanings, columns, str(interactions))


def _forget_infrastructure(settings: Settings) -> None:
    """Drop what plain ``feast apply`` noted about SQLite tables: with it, a registry that was moved cannot be opened."""
    from sqlalchemy import create_engine, inspect, text

    config = repo_config(settings)
    registry = config.registry
    if registry.registry_type != "sql":
        return
    engine = create_engine(registry.path)
    try:
        if inspect(engine).has_table("managed_infra"):
            with engine.begin() as connection:
                connection.execute(text("DELETE FROM managed_infra WHERE project_id = :name"), {"name": config.project})
    except Exception:  # opening the store comes next, and says what is wrong
        raise_if_received()
        return
    finally:
        engine.dispose()


def _place(error: Exception, repository: Path) -> str:
    """Return file and line of the definition that raised ``error``, or nothing if it came from elsewhere."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno))
    if isinstance(error, SyntaxError) and not error.filename:
        return next(
            (f"{p.relative_to(repository)}: " for p in sorted(repository.rglob("*.py")) if not _compiles(p)), ""
        )
    inside = [(Path(file), line) for file, line in places if Path(file).is_relative_to(repository)]
    return f"{inside[-1][0].relative_to(repository)}, line {inside[-1][1]}: " if inside else ""


def _compiles(path: Path) -> bool:
    try:
        compile(path.read_bytes(), str(path), "exec")
    except (SyntaxError, ValueError):
        return False
    return True


@contextmanager
def _importing(repository: Path) -> Iterator[None]:
    """Let definition files import each other by plain names, and forget them afterwards."""
    before: dict[str, Any] = dict(sys.modules)
    sys.path.insert(0, str(repository))
    importlib.invalidate_caches()
    try:
        with chdir(repository):
            yield
    finally:
        sys.path.remove(str(repository))
        for name in set(sys.modules) - set(before):
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(repository)):
                del sys.modules[name]
