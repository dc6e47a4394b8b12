import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Timer

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from rf_platform.errors import ConfigError
from rf_platform.registry import Registry
from rf_platform.registry.engine import alembic_config, make_engine, parse_url, revision, state, writing
from rf_platform.registry.models import VERSION_TABLE, Base

TABLES = {
    "rf_datasets",
    "rf_runs",
    "rf_bundles",
    "rf_deployments",
    "rf_catalog_journal",
    "rf_traffic",
    "rf_item_evidence",
    "rf_policies",
    "rf_experiments",
}


def test_migrations_from_nothing_give_exactly_the_models(registry: Registry, registry_url: str) -> None:
    engine = make_engine(parse_url(registry_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []
        assert set(inspect(connection).get_table_names()) == TABLES | {VERSION_TABLE}


def test_the_comparison_sees_a_difference(registry: Registry, registry_url: str) -> None:
    engine = make_engine(parse_url(registry_url))
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE rf_runs DROP COLUMN error"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        ((difference, _, table, column),) = compare_metadata(context, Base.metadata)
    assert (difference, table, column.name) == ("add_column", "rf_runs", "error")


def test_constraints_are_those_of_the_models(registry: Registry, registry_url: str) -> None:
    """Alembic's comparison leaves out check constraints and names."""
    inspector = inspect(make_engine(parse_url(registry_url)))
    for name, table in Base.metadata.tables.items():
        found = {c["name"] for c in inspector.get_check_constraints(name)}
        found |= {c["name"] for c in inspector.get_unique_constraints(name)}
        found |= {c["name"] for c in inspector.get_foreign_keys(name)} | {inspector.get_pk_constraint(name)["name"]}
        expected: set[str | None] = {str(c.name) for c in table.constraints}
        if registry_url.startswith("sqlite") and table.dialect_options["sqlite"]["autoincrement"]:
            expected = (expected - {str(table.primary_key.name)}) | {None}  # SQLite's keys that count have no name
        assert found == expected


def test_downgrade_removes_everything_and_upgrade_works_again(
    registry: Registry, registry_url: str, home: Path
) -> None:
    engine = make_engine(parse_url(registry_url))
    with writing(engine).begin() as connection:
        command.downgrade(alembic_config(connection), "base")
    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) == {VERSION_TABLE}
        assert revision(connection) is None
    assert Registry.open(registry_url, root=home).runs() == []


def test_opening_again_changes_nothing(with_run: Registry, registry_url: str, home: Path) -> None:
    assert [run.name for run in Registry.open(registry_url, root=home).runs()] == ["demo"]


def test_a_database_of_a_newer_version_is_refused_and_left_alone(with_run: Registry, registry_url: str) -> None:
    engine = make_engine(parse_url(registry_url))
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(
        ConfigError, match=r"revision 9999, which this version does not know .*upgrade this installation"
    ):
        Registry.open(registry_url)
    with engine.connect() as connection:
        assert revision(connection) == "9999"
        assert connection.execute(text("SELECT count(*) FROM rf_runs")).scalar() == 1


def test_a_fresh_file_that_somebody_is_writing_is_waited_for(tmp_path: Path) -> None:
    """SQLite does not wait by itself when a file is switched to write-ahead logging."""
    file = tmp_path / "registry.db"
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE other (x)")
        other.execute("BEGIN IMMEDIATE")
        release = Timer(0.3, other.execute, ["COMMIT"])
        release.start()
        assert Registry.open(f"sqlite:///{file}", root=tmp_path).runs() == []
        release.join()


def test_tables_of_others_in_the_same_database_are_left_alone(registry_url: str, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    engine = make_engine(parse_url(registry_url))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('somebody else')"))
        connection.execute(text("CREATE TABLE runs (name VARCHAR)"))
    Registry.open(registry_url, root=tmp_path)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "somebody else"
        assert revision(connection) == "0007"


def test_a_failing_migration_leaves_nothing_behind(registry_url: str, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    engine = make_engine(parse_url(registry_url))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE rf_deployments (id INTEGER)"))  # the last table collides
    with pytest.raises(Exception, match="rf_deployments"):
        Registry.open(registry_url, root=tmp_path)
    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) - {VERSION_TABLE} == {"rf_deployments"}
        assert revision(connection) is None


@pytest.mark.parametrize(
    ("current", "expected"), [(None, "empty"), ("0001", "older"), ("0007", "current"), ("9999", "newer")]
)
def test_state_of_a_revision(current: str | None, expected: str) -> None:
    assert state(current) == expected


def test_migrations_are_numbered_in_one_line() -> None:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(alembic_config())
    assert len(scripts.get_heads()) == len(scripts.get_bases()) == 1
