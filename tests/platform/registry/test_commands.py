"""`rf promote`, `rf rollback` and `rf bundles` as a user runs them, against a real Feast registry."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rf_platform.cli import main
from rf_platform.cli.console import err_console, out_console
from rf_platform.features.spec import FeatureSpec
from rf_platform.registry import BundleRecord, Registry, promote
from rf_platform.registry.commands import headline
from rf_platform.settings import Settings, get_settings

MakeBundle = Callable[[str], BundleRecord]
_STORE = """
project: small
provider: local
registry: {registry_type: sql}
online_store: {type: sqlite}
offline_store: {type: duckdb}
entity_key_serialization_version: 3
"""
_DEFINITIONS = """
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float32, String

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64)
table = FileSource(path="items.parquet", timestamp_field="event_timestamp")
items = FeatureView(name="items", entities=[item], source=table, schema=[Field(name="genre", dtype=String)])
retrieval = FeatureService(name="retrieval", features=[items])
"""


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Result]


class FeatureStore(NamedTuple):
    repository: Path
    state: Path
    spec: FeatureSpec


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """A Feast repository with one item feature, applied."""
    from rf_platform.features.apply import apply_definitions

    repository = tmp_path_factory.mktemp("feature_repo")
    (repository / "feature_store.yaml").write_text(_STORE)
    (repository / "definitions.py").write_text(_DEFINITIONS)
    settings = Settings(home=tmp_path_factory.mktemp("features"), feature_repo=repository)
    spec = apply_definitions(settings).definitions.spec
    return FeatureStore(repository, settings.workspace.feast, spec)


@pytest.fixture
def spec(features: FeatureStore) -> FeatureSpec:
    """The specification that bundles of these tests are built from: what the feature store offers."""
    return features.spec


@pytest.fixture
def registry_url(home: Path) -> str:
    """The workspace's own registry, which the commands find by the settings."""
    return f"sqlite:///{home / 'registry.db'}"


@pytest.fixture
def rf(
    home: Path, features: FeatureStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run a command in the workspace and return its exit code and output."""
    shutil.copytree(features.state, home / "feast")
    monkeypatch.setenv("RF_FEATURE_REPO", str(features.repository))
    monkeypatch.setenv("COLUMNS", "200")
    for cached in (get_settings, out_console, err_console):
        cached.cache_clear()

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["rf", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Result(int(ended.value.code or 0), *capsys.readouterr())

    yield run
    for cached in (out_console, err_console):
        cached.cache_clear()


def test_promote_and_roll_back(rf: Run, make_bundle: MakeBundle, with_run: Registry) -> None:
    make_bundle("demo-1")
    make_bundle("demo-2")
    assert rf("promote", "demo-1") == (0, "now serving demo-1\n", "")
    assert rf("promote", "demo-2", "--note", "[b]better[/b]").out == "now serving demo-2 (before: demo-1)\n"
    assert rf("promote", "demo-2").out == "demo-2 is the served bundle already\n"
    back = rf("rollback", "--note", "slow", "--json").json
    assert (back["bundle"], back["action"], back["note"], back["before"]) == ("demo-1", "rollback", "slow", "demo-2")
    code, out, err = rf("rollback")
    assert (code, out) == (2, "")
    assert "nothing was served before 'demo-1'" in err
    assert [(d.bundle, d.note) for d in with_run.deployments()] == [
        ("demo-1", ""),
        ("demo-2", "[b]better[/b]"),
        ("demo-1", "slow"),
    ]


def test_a_damaged_bundle_is_refused_in_one_sentence(rf: Run, make_bundle: MakeBundle, home: Path) -> None:
    make_bundle("demo-1")
    make_bundle("demo-2")
    rf("promote", "demo-1")
    (home / "bundles" / "demo-2" / "vectors.npy").write_bytes(b"x")
    code, out, err = rf("promote", "demo-2")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "vectors.npy (1 bytes instead of 600)" in err
    assert rf("bundles", "--json").json["active"] == "demo-1"


def test_a_rollback_to_a_damaged_bundle_is_refused(rf: Run, make_bundle: MakeBundle, home: Path) -> None:
    for name in ("demo-1", "demo-2"):
        make_bundle(name)
        rf("promote", name)
    (home / "bundles" / "demo-1" / "vectors.npy").unlink()
    code, _, err = rf("rollback")
    assert code == 1
    assert "vectors.npy (missing)" in err
    assert rf("bundles", "--json").json["active"] == "demo-2"


Redefine = Callable[[str, str], None]


@pytest.fixture
def redefine(rf: Run, features: FeatureStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Redefine:
    """Apply the definitions with a text replaced: ``redefine(old, new)``."""
    from rf_platform.features.apply import apply_definitions

    def apply(old: str, new: str) -> None:
        repository = tmp_path / "changed"
        shutil.copytree(features.repository, repository, dirs_exist_ok=True)
        assert old in _DEFINITIONS
        (repository / "definitions.py").write_text(_DEFINITIONS.replace(old, new))
        monkeypatch.setenv("RF_FEATURE_REPO", str(repository))
        get_settings.cache_clear()
        apply_definitions(get_settings())

    return apply


def test_a_bundle_that_reads_other_features_is_refused_by_field(
    rf: Run, make_bundle: MakeBundle, redefine: Redefine
) -> None:
    make_bundle("demo-1")
    redefine("dtype=String)]", "dtype=Float32)]")
    code, _, err = rf("promote", "demo-1")
    assert code == 2
    assert "field items__genre changed: kind 'categorical' -> 'numeric', dtype 'String' -> 'Float32'" in err
    assert rf("bundles", "--json").json["active"] is None


def test_an_apply_warns_of_bundles_in_use_that_do_not_fit(rf: Run, make_bundle: MakeBundle, redefine: Redefine) -> None:
    for name in ("demo-1", "demo-2", "demo-3"):
        make_bundle(name)
    rf("promote", "demo-1")
    rf("shadow", "demo-3")
    assert "warning" not in rf("features", "apply").err
    redefine("dtype=String)]", "dtype=Float32)]")
    code, out, err = rf("features", "apply")
    assert code == 0
    assert out.startswith("registered")
    first, second = err.splitlines()
    assert first.startswith(
        "warning: bundle 'demo-1' does not fit the feature store any more: field items__genre changed"
    )
    assert second.startswith("warning: bundle 'demo-3' does not fit")


def test_additions_are_a_note_of_every_command(rf: Run, make_bundle: MakeBundle, redefine: Redefine) -> None:
    for name in ("demo-1", "demo-2"):
        make_bundle(name)
    redefine("dtype=String)]", 'dtype=String), Field(name="price", dtype=Float32)]')
    said = "new since it was built, and used from the next dataset on: items__price"
    assert rf("promote", "demo-1") == (0, "now serving demo-1\n", f"note: demo-1: {said}\n")
    assert rf("promote", "demo-2", "--percent", "10").err == f"note: demo-2: {said}\n"
    assert rf("shadow", "demo-2").err == f"note: demo-2: {said}\n"
    assert rf("promote", "demo-2", "--json").json["notes"] == [said]
    assert rf("rollback").err == f"note: demo-1: {said}\n"


def test_a_bundle_is_promoted_for_a_service_of_another_name(
    rf: Run, make_bundle: MakeBundle, redefine: Redefine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bundle("demo-1")
    monkeypatch.setenv("RF_FEATURE_SERVICE", "other")
    redefine('name="retrieval"', 'name="other"')
    assert rf("promote", "demo-1").err == "note: demo-1: feature service 'retrieval' -> 'other'\n"
    monkeypatch.delenv("RF_FEATURE_SERVICE")
    get_settings.cache_clear()
    refused = rf("promote", "demo-1")
    assert refused.code == 2
    assert "no feature service 'retrieval'" in refused.err
    assert "(it has: other)" in refused.err
    assert "set RF_FEATURE_SERVICE" in refused.err


def test_an_unknown_bundle_is_a_usage_error(rf: Run, make_bundle: MakeBundle) -> None:
    make_bundle("demo-1")
    code, _, err = rf("promote", "demo-11")
    assert code == 2
    assert "no bundle 'demo-11': did you mean demo-1?" in err


def test_bundles_are_listed_with_their_state(rf: Run, make_bundle: MakeBundle, with_run: Registry, home: Path) -> None:
    assert f"no bundles in {home} yet" in rf("bundles").out
    for name in ("demo-1", "demo-2", "demo-3"):
        make_bundle(name)
    promote(with_run, "demo-1", note="[first]")
    (home / "bundles" / "demo-2" / "vectors.npy").write_bytes(b"x" * 600)  # same size
    shutil.rmtree(home / "bundles" / "demo-3")
    code, out, _ = rf("bundles")
    third, second, first = (line for line in out.splitlines() if " demo " in line)
    assert code == 0
    assert "demo-3" in third
    assert "the directory is missing" in third
    assert "demo-2" in second
    assert "present" in second
    assert "●" not in second
    assert "demo-1" in first
    assert "●" in first
    assert "recall@20 0.25" in first
    assert "[first]" in out
    verified = rf("bundles", "--verify")
    assert verified.code == 1
    assert "vectors.npy (checksum differs)" in verified.out
    assert sum("intact" in line for line in verified.out.splitlines()) == 1


def test_bundles_as_json(rf: Run, make_bundle: MakeBundle, with_run: Registry, home: Path) -> None:
    record = make_bundle("demo-1")
    promote(with_run, "demo-1")
    listing = rf("bundles", "--verify", "--json")
    assert listing.code == 0
    (row,) = listing.json["bundles"]
    assert (row["name"], row["active"], row["damage"], row["verified"]) == ("demo-1", True, [], True)
    assert row["path"] == str(record.path)
    assert row["bytes"] == sum(f.stat().st_size for f in record.path.iterdir() if f.name != "manifest.json")
    assert [d["bundle"] for d in listing.json["deployments"]] == ["demo-1"]


@pytest.mark.parametrize(
    ("metrics", "shown"),
    [
        ({}, ""),
        ({"epochs": 3, "done": True, "a": "x"}, "epochs 3"),
        (
            {"test": {"ndcg@20": 0.12345, "recall@20": 0.25}, "mrr": 0.1, "recall@5": 1.0},
            "test.recall@20 0.25  test.ndcg@20 0.1235  mrr 0.1",
        ),
        ({"recall@20": None, "loss": 2.0}, "loss 2"),
    ],
)
def test_headline_of_metrics(metrics: dict[str, Any], shown: str) -> None:
    assert headline(metrics) == shown


def test_only_signed_bundles_are_promoted_where_that_is_required(
    rf: Run, make_bundle: MakeBundle, with_run: Registry, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("demo-1", "demo-2", "demo-3"):
        make_bundle(name)
    for name in ("demo-2", "demo-1"):  # demo-2 is what a rollback returns to
        promote(with_run, name)
    key = home.parent / "release"
    assert rf("bundle", "keygen", str(key)).code == 0
    assert rf("bundle", "sign", "demo-3", "--key", str(key)).out.startswith("demo-3 is signed by the key ")
    verified = rf("bundle", "verify", "demo-3", "--key", f"{key}.pub", "--json")
    assert (verified.code, verified.json["bundle"], verified.json["files"]) == (0, "demo-3", 2)
    refused = rf("bundle", "verify", "demo-1", "--key", f"{key}.pub")
    assert (refused.code, refused.out) == (1, "")
    assert "'demo-1' is not signed" in refused.err

    monkeypatch.setenv("RF_REQUIRE_SIGNATURE", f"{key}.pub")
    get_settings.cache_clear()
    for command in (
        ("promote", "demo-2"),
        ("promote", "demo-2", "--percent", "5"),
        ("rollback",),
        ("shadow", "demo-2"),
    ):
        refused = rf(*command)
        assert (refused.code, "'demo-2' is not signed" in refused.err) == (1, True), refused
    assert rf("promote", "demo-3").code == 0
    assert [bundle["signed_by"] is not None for bundle in rf("bundles", "--json").json["bundles"]] == [
        True,
        False,
        False,
    ]
    (home / "bundles" / "demo-3" / "vectors.npy").write_bytes(b"x" * 600)
    refused = rf("bundle", "sign", "demo-3", "--key", str(key))
    assert "vectors.npy (checksum differs)" in refused.err
    refused = rf("bundle", "verify", "demo-3")  # the key is that of the variable
    assert "vectors.npy (checksum differs)" in refused.err
