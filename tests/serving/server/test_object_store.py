"""A server on another host fetches what it serves: the registry is shared, and the files come from an object store."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rf_platform.bundle import manifest_sha256, write_manifest
from rf_platform.bundle.signature import make_keys, sign
from rf_platform.errors import CorruptError, NotFoundError, UntrustedError
from rf_platform.settings import Settings

FIRST, SECOND = "tiny-run-1", "other-run-1"


@pytest.fixture
def here(pair: Settings, store_url: str) -> Settings:
    """The host that builds and promotes."""
    return pair.model_copy(update={"store_url": store_url})


@pytest.fixture
def there(here: Settings, tmp_path: Path, copy_workspace: Callable[[Path, Path], Path]) -> Settings:
    """A host that serves: the feature store is there, and neither bundles nor runs nor datasets are."""
    home = copy_workspace(here.home, tmp_path / "there")
    for name in ("bundles", "runs", "datasets", "cache", "registry.db"):
        shutil.rmtree(home / name) if (home / name).is_dir() else (home / name).unlink(missing_ok=True)
    return here.model_copy(update={"home": home, "registry_url": here.platform_registry_url})


def promote(settings: Settings, name: str) -> None:
    from rf_platform import registry

    registry.promote(registry.Registry.of(settings), name)


def test_a_server_fetches_what_is_promoted(
    here: Settings,
    there: Settings,
    start_server: Callable[..., Any],
    wait_until: Callable[..., None],
    logs: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rf_platform.object_store import ObjectStore
    from rf_platform.registry import Registry

    monkeypatch.setattr("rf_serving.deployment.deployments._RETRY_SECONDS", 0.5)
    missing = rf"has no bundle '{FIRST}' .* `rf store push bundle {FIRST}` where"
    with pytest.raises(NotFoundError, match=missing), start_server(there):
        pass
    promote(here, FIRST)  # it is the promoted one already, and goes to the store
    with start_server(there, poll_seconds=0.05) as running:
        assert running.retriever.bundle.name == FIRST
        fetched = there.workspace.bundles / FIRST
        assert (fetched / "vectors.npy").stat().st_nlink == 2  # one is the cache's
        Registry.of(here).promote(SECOND)  # without its files, as by another hand
        deployments = running.parts.deployments
        wait_until(lambda: f"has no bundle '{SECOND}'" in deployments.serving.refused)
        assert deployments.serving.active.name == FIRST
        promote(here, SECOND)
        wait_until(lambda: deployments.serving.active.name == SECOND)
        assert "bundle fetched" in [entry["event"] for entry in logs.entries]
    store = ObjectStore(there)
    assert sorted(store.remote.directories("bundles/")) == sorted([FIRST, SECOND])
    shutil.rmtree(there.workspace.bundles)  # a host with its cache alone
    store.remote.delete([key for key in store.remote.keys("bundles/") if not key.endswith("listing.json")])
    with start_server(there) as running:
        assert running.retriever.bundle.name == SECOND


def test_signatures_hold_for_what_is_fetched(
    here: Settings, there: Settings, start_server: Callable[..., Any], tmp_path: Path
) -> None:
    from rf_platform.object_store import Kind
    from rf_platform.registry import Registry
    from rf_platform.registry.remote_files import pulled, pushed

    key = tmp_path / "release"
    strict = there.model_copy(update={"require_signature": make_keys(key)})
    promote(here, FIRST)
    with pytest.raises(UntrustedError, match=f"'{FIRST}' is not signed"), start_server(strict):
        pass
    sign(here.workspace.bundles / FIRST, key)
    record = Registry.of(here).bundle(FIRST)
    assert pushed(Registry.of(here), record).sent_bytes < 1000
    pulled(Registry.of(strict), Kind.BUNDLE, FIRST, strict.home)
    with start_server(strict) as running:
        assert running.retriever.bundle.name == FIRST

    # Whoever writes to the store can put another bundle there, complete with manifest and listing: it is not the recorded one.
    shutil.rmtree(strict.workspace.bundles)
    forged = here.workspace.bundles / FIRST
    (forged / "vectors.npy").write_bytes((forged / "vectors.npy").read_bytes()[::-1])
    facts = json.loads((forged / "manifest.json").read_text())
    names = ("name", "run", "dataset_fingerprint", "spec_hash", "metrics", "index")
    write_manifest(forged, **{name: facts[name] for name in names})
    assert manifest_sha256(forged) != record.manifest_sha256
    store = Registry.of(here).store
    assert store is not None
    store.remove(Kind.BUNDLE, FIRST)
    store.push(Kind.BUNDLE, FIRST, forged, {})
    with pytest.raises(CorruptError, match=rf"has another bundle '{FIRST}' .* than the registry"), start_server(strict):
        pass
    assert not (strict.workspace.bundles / FIRST).exists()


def test_commands_push_and_pull_into_a_registry_of_its_own(
    here: Settings, tmp_path: Path, run_command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rf_platform.settings import get_settings

    def rf(home: Path, *words: str) -> Any:
        for name, value in (("HOME", home), ("FEATURE_REPO", here.feature_repo), ("STORE_URL", here.store_url)):
            monkeypatch.setenv(f"RF_{name}", str(value))
        get_settings.cache_clear()
        code, out, err = run_command("store", *words, "--json")
        get_settings.cache_clear()
        assert code == 0, err
        return json.loads(out)

    other = tmp_path / "other"
    other.mkdir()
    assert rf(here.home, "push", "bundle")["name"] == SECOND  # the newest
    assert rf(here.home, "push", "run", "other-run")["kind"] == "run"
    sent = rf(here.home, "push", "dataset")
    assert (sent["kind"], sent["sent_bytes"] > 0) == ("dataset", True)
    assert rf(here.home, "push", "dataset")["sent_bytes"] == 0
    assert [(row["kind"], row["name"], row["here"]) for row in rf(other, "list")] == [
        ("bundle", SECOND, False),
        ("dataset", sent["name"], False),
        ("run", "other-run", False),
    ]
    rf(other, "pull", "bundle", SECOND)

    from rf_platform.dataset.run_dataset import open_run_dataset
    from rf_platform.registry import Registry

    registry = Registry.of(Settings(home=other, store_url=here.store_url))
    assert registry.bundle(SECOND).path == other / "bundles" / SECOND
    run = registry.run("other-run")
    assert (run.status, run.metrics, run.removed_at is not None) == ("completed", {"recall@20": 0.6}, True)
    assert (
        open_run_dataset(registry, run).fingerprint == registry.dataset(sent["name"]).fingerprint
    )  # fetched by itself
    assert registry.dataset().removed_at is None
    assert registry.run().name == "other-run"
    assert [row["here"] for row in rf(other, "list")] == [True, True, True]
    assert rf(here.home, "rm", "run", "other-run")["name"] == "other-run"
    assert [row["kind"] for row in rf(other, "list")] == ["bundle", "dataset"]


def test_what_is_made_is_pushed(
    here: Settings, there: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rf_platform.dataset.protocols import LeaveOneOut
    from rf_platform.dataset.version import build_version
    from rf_platform.errors import RfError, UnavailableError
    from rf_platform.features.apply import apply_definitions
    from rf_platform.object_store import Kind
    from rf_platform.object_store.remote import RemoteStore
    from rf_platform.registry import Registry
    from rf_serving.bundle.build import build_bundle
    from rf_training.run import recipe_for, start_run

    here = here.model_copy(update={"feast_registry_url": f"sqlite:///{tmp_path / 'feast.db'}"})
    apply_definitions(here)  # the tables lie elsewhere now
    registry = Registry.of(here)
    build_version(here, LeaveOneOut())
    changes = ("train.epochs=1", "model.dim=16", "model.layers=1", "model.max_history=4")
    start_run(here, recipe_for(here, "demo", None, changes), None, "pushed")
    build_bundle(registry, here.workspace.bundles, "pushed", name="pushed")
    store = registry.store
    assert store is not None
    assert store.find(Kind.BUNDLE, "pushed") is not None
    assert store.find(Kind.DATASET, registry.dataset().name) is not None
    run = store.listing(Kind.RUN, "pushed")
    assert {"run.json", "metrics.json", "best/weights.safetensors", "history.jsonl"} < set(run.files)
    assert run.facts["run"]["status"] == "completed"

    # On another host: a bundle of the same run, all of whose files come from the store.
    built = build_bundle(Registry.of(there), there.workspace.bundles, "pushed", name="elsewhere")
    assert built.items == 60
    assert store.find(Kind.BUNDLE, "elsewhere") is not None

    def refuses(self: RemoteStore, key: str, content: Any) -> None:
        raise UnavailableError("the store is away")

    monkeypatch.setattr(RemoteStore, "put", refuses)
    said = "'kept' is complete here, but was not pushed: the store is away; then `rf store push bundle kept`"
    with pytest.raises(RfError, match=said):
        build_bundle(registry, here.workspace.bundles, "pushed", name="kept")
    assert registry.bundle("kept").path.is_dir()
