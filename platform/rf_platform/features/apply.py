"""Register the definitions of a Feast repository: what ``feast apply`` does, inside this process."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rf_platform.errors import ConfigError, RfError
from rf_platform.features.read import FeatureDefinitions, parse_definitions, read_definitions
from rf_platform.features.store import first_line, open_store, quiet
from rf_platform.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What is registered after an apply."""

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
    store = open_store(settings)
    from feast import Project
    from feast.repo_operations import apply_total_with_repo_instance, parse_repo

    repository = Path(str(store.config.repo_path))
    try:
        with _importing(repository), quiet():
            contents = parse_repo(repository)
            if not contents.projects:
                contents.projects.append(Project(name=store.project))
            # Refused before it is registered: servers read this registry.
            parse_definitions(
                store.project,
                contents.entities,
                contents.feature_views,
                contents.feature_services,
                settings.feature_service,
            )
            # Feast's check of the sources is skipped: history arrays are written later, and materialisation checks with
            # messages that name view and column.
            apply_total_with_repo_instance(store, store.project, store.registry, contents, skip_source_validation=True)
    except RfError:
        raise
    except Exception as error:  # definition files are the user's code: anything can come out of them
        raise ConfigError(f"the definitions in {repository} cannot be applied: {first_line(error)}") from error
    store.refresh_registry()
    return Applied(
        entities=sorted(e.name for e in store.list_entities()),
        feature_views=sorted(v.name for v in store.list_feature_views()),
        feature_services=sorted(s.name for s in store.list_feature_services()),
        definitions=read_definitions(store, settings.feature_service),
    )


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
