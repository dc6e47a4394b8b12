import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rf_platform.doctor.check import Check, Status, run_checks
from rf_platform.doctor.stores import check_feature_registry, check_online_store, check_registry, existing_registry
from rf_platform.features.spec import FeatureSpec
from rf_platform.registry import Registry, engine
from rf_platform.settings import Settings

Applied = tuple[Settings, FeatureSpec]


def test_a_registry_that_is_not_there_yet_is_not_created(settings: Settings) -> None:
    assert check_registry(settings).status is Status.WARN
    assert existing_registry(settings) is None
    assert not settings.workspace.root.exists()


def test_a_registry_in_order(settings: Settings) -> None:
    Registry.of(settings)
    found = check_registry(settings)
    assert found.status is Status.OK
    newest = max(path.name for path in Path(engine.__file__).parent.glob("migrations/versions/[0-9]*.py"))[:4]
    assert found.detail.endswith(f"registry.db, schema revision {newest}")
    assert existing_registry(settings) is not None


def test_a_registry_without_tables_is_not_upgraded(settings: Settings) -> None:
    settings.workspace.root.mkdir()
    with closing(sqlite3.connect(settings.workspace.root / "registry.db")) as connection:
        connection.execute("CREATE TABLE other (x)")
    found = check_registry(settings)
    assert found.status is Status.WARN
    assert "no up-to-date tables" in found.detail
    assert existing_registry(settings) is None
    with closing(sqlite3.connect(settings.workspace.root / "registry.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("other",)]


def test_a_registry_of_a_newer_version(settings: Settings) -> None:
    Registry.of(settings)
    with closing(sqlite3.connect(settings.workspace.root / "registry.db")) as connection, connection:
        connection.execute("UPDATE rf_schema_version SET version_num = '9999'")
    found = check_registry(settings)
    assert found.status is Status.FAIL
    assert "9999" in found.detail
    assert "upgrade this installation" in found.remedy


def test_a_damaged_registry(settings: Settings) -> None:
    Registry.of(settings)
    file = settings.workspace.root / "registry.db"
    file.write_bytes(b"not a database" * 1000)
    found = check_registry(settings)
    assert found.status is Status.FAIL
    assert "registry.db: file is not a database" in found.detail
    assert "restore" in found.remedy


def test_a_registry_server_that_is_down(settings: Settings, closed_port: int) -> None:
    down = settings.model_copy(update={"registry_url": f"postgresql://rf:secret@127.0.0.1:{closed_port}/rf"})
    found = check_registry(down)
    assert found.status is Status.FAIL
    assert "refused" in found.detail
    assert "RF_REGISTRY_URL" in found.remedy
    assert "secret" not in found.detail


def test_feature_stores_of_a_fresh_workspace(settings: Settings) -> None:
    assert check_feature_registry(settings).status is Status.WARN
    assert check_online_store(settings).status is Status.WARN
    assert not settings.workspace.root.exists()


def test_a_feature_repository_that_is_not_where_it_should_be(settings: Settings, tmp_path: Path) -> None:
    wrong = settings.model_copy(update={"feature_repo": tmp_path / "nowhere"})
    results = list(run_checks((Check("r", check_feature_registry), Check("o", check_online_store)), wrong))
    assert [r.status for r in results] == [Status.FAIL, Status.FAIL]
    assert all("nowhere" in r.detail and "RF_FEATURE_REPO" in r.remedy for r in results)


def test_a_feature_registry_in_order(applied: Applied) -> None:
    settings, spec = applied
    found = check_feature_registry(settings)
    assert found.status is Status.OK
    assert found.detail == f"service 'retrieval': 1 fields of 1 views, spec {spec.hash[:12]}"
    assert check_online_store(settings).status is Status.OK


def test_features_that_are_not_applied_yet(settings: Settings, feature_repository: Path) -> None:
    fresh = settings.model_copy(update={"feature_repo": feature_repository})
    for check, remedy in ((check_feature_registry, "apply"), (check_online_store, "materialize")):
        found = check(fresh)
        assert (found.status, found.remedy) == (Status.WARN, f"`rf features {remedy}`")
    assert not (settings.workspace.feast / "registry.db").exists()


def test_a_damaged_feature_registry_and_online_store(applied: Applied) -> None:
    settings, _ = applied
    for name in ("registry.db", "online.db"):
        (settings.workspace.feast / name).write_bytes(b"not a database" * 1000)
    for check, name in ((check_feature_registry, "registry.db"), (check_online_store, "online.db")):
        found = check(settings)
        assert found.status is Status.FAIL
        assert f"{name}: file is not a database" in found.detail
        assert found.remedy


def test_a_service_that_is_not_registered(applied: Applied) -> None:
    settings, _ = applied
    (result,) = run_checks(
        (Check("features", check_feature_registry),), settings.model_copy(update={"feature_service": "other"})
    )
    assert result.status is Status.FAIL
    assert "no feature service 'other'" in result.detail
    assert result.remedy == "run `rf features apply`, or set RF_FEATURE_SERVICE to the name it has now"


@pytest.mark.parametrize("scheme", ["redis", "postgresql"])
def test_an_online_store_that_is_down(settings: Settings, closed_port: int, scheme: str) -> None:
    down = settings.model_copy(update={"online_store_url": f"{scheme}://u:secret@127.0.0.1:{closed_port}/0"})
    found = check_online_store(down)
    assert found.status is Status.FAIL
    assert f"{scheme}://u:***@127.0.0.1:{closed_port}/0" in found.detail
    assert "refused" in found.detail
    assert "RF_ONLINE_STORE_URL" in found.remedy


def test_a_feature_registry_server_that_is_down(settings: Settings, feature_repository: Path, closed_port: int) -> None:
    url = f"postgresql+psycopg://u:secret@127.0.0.1:{closed_port}/feast"
    down = settings.model_copy(update={"feature_repo": feature_repository, "feast_registry_url": url})
    found = check_feature_registry(down)
    assert found.status is Status.FAIL
    assert "refused" in found.detail
    assert "secret" not in found.detail


def test_tables_of_a_catalog_without_a_repository_are_an_error(settings: Settings) -> None:
    settings.workspace.tables.mkdir(parents=True)
    (settings.workspace.tables / "import.json").write_text(json.dumps({"feature_repo": "unheard-of"}))
    (result,) = run_checks((Check("features", check_feature_registry),), settings)
    assert result.status is Status.FAIL
