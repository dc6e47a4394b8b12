import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rf_platform.settings import Settings

if TYPE_CHECKING:
    from rf_platform.dataset import Dataset
    from rf_platform.registry import Registry

CLIENTS = Path(__file__).parents[1] / "clients"
GO_PATH = Path("/usr/share/gocode")
"""Where Debian's packages of Go's libraries are."""
REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
FIRST, SECOND, WIDE = "tiny-run-1", "other-run-1", "wide-run-1"


@pytest.fixture(scope="session")
def home_of_two(
    home: Path,
    dataset: "Dataset",
    tmp_path_factory: pytest.TempPathFactory,
    copy_workspace: Callable[[Path, Path], Path],
) -> Path:
    """A copy of the workspace with a bundle of another model beside the promoted one."""
    import torch

    from rf_platform.registry import Registry
    from rf_serving.bundle.build import build_bundle
    from rf_training.model.config import ModelConfig
    from rf_training.model.retrievalformer import RetrievalFormer
    from rf_training.model.storage import save_model

    torch.manual_seed(1)
    other = RetrievalFormer(ModelConfig(dim=16, layers=2, heads=2, max_history=8), dataset.encoder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    copied = copy_workspace(home, tmp_path_factory.mktemp("two") / "home")
    settings = Settings(home=copied, feature_repo=REPOSITORY)
    registry = Registry.of(settings)
    path = settings.workspace.runs / "other-run"
    save_model(path / "best", other.eval())
    (path / "metrics.json").write_text(json.dumps({"recall@20": 0.6}))
    registry.start_run("other-run", dataset=dataset.name, recipe="tiny", config={}, path=path)
    registry.finish_run("other-run", {"recall@20": 0.6})
    built = build_bundle(registry, settings.workspace.bundles, "other-run")
    assert built.record.name == SECOND
    return copied


@pytest.fixture
def pair(home_of_two: Path, tmp_path: Path, copy_workspace: Callable[[Path, Path], Path]) -> Settings:
    """A workspace of its own with two bundles, ``FIRST`` promoted."""
    copied = copy_workspace(home_of_two, tmp_path / "home")
    return Settings(home=copied, feature_repo=REPOSITORY)


WIDER: dict[str, tuple[tuple[str, str], ...]] = {
    "items.py": (("    schema=[", '    schema=[\n        Field(name="studio", dtype=String),'),),
    "users.py": (("    schema=[", '    schema=[\n        Field(name="country", dtype=String),'),),
    "context.py": (
        (
            "    schema=[",
            '    schema=[\n        Field(name="again", dtype=Array(Int64), tags={"role": "history", "of": "hour"}),',
        ),
        ("import user_history", "import devices, user_history"),
        (
            "interaction_context = ",
            "devices_used = FeatureView(\n    name='devices_used', entities=[user], source=devices,\n"
            "    schema=[Field(name='names', dtype=Array(String), tags={'role': 'history', 'of': 'device'})],\n)\n\n"
            "interaction_context = ",
        ),
    ),
    "sources.py": (
        (
            "# Written by",
            'devices = FileSource(name="devices", path=f"{TABLES}/devices.parquet", timestamp_field="event_timestamp")\n\n'
            "# Written by",
        ),
    ),
    "services.py": (
        ("import interaction_context", "import devices_used, interaction_context"),
        ("[", "[devices_used, "),
    ),
}
"""Additions to the definitions: a field on every view, and a history field in a view of its own."""


@pytest.fixture(scope="session")
def home_of_wider(
    home: Path,
    tmp_path_factory: pytest.TempPathFactory,
    copy_workspace: Callable[[Path, Path], Path],
) -> Path:
    """A copy of the workspace whose definitions have grown, with a bundle of the new ones, ``WIDE``, beside the promoted one.

    They are applied and not materialised: the online store has what it had.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch

    from rf_platform.dataset.build import build_dataset
    from rf_platform.features.apply import apply_definitions
    from rf_platform.registry import Registry
    from rf_serving.bundle.build import build_bundle
    from rf_training.model.config import ModelConfig
    from rf_training.model.retrievalformer import RetrievalFormer
    from rf_training.model.storage import save_model

    copied = copy_workspace(home, tmp_path_factory.mktemp("wider") / "home")
    shutil.copytree(REPOSITORY, copied / "repository", ignore=shutil.ignore_patterns("__pycache__"))
    for name, edits in WIDER.items():
        path = copied / "repository" / name
        text = path.read_text()
        for old, new in edits:
            assert old in text
            text = text.replace(old, new, 1)
        path.write_text(text)
    for name, column, values in (
        ("items", "studio", ["A24", "Gaumont", None]),
        ("users", "country", ["de", "fr", None]),
        ("interactions", "device", ["tv", None, "phone"]),
    ):
        path = copied / "tables" / f"{name}.parquet"
        table = pq.read_table(path)
        column_values = pa.array([values[n % 3] for n in range(table.num_rows)], pa.string())
        pq.write_table(table.append_column(column, column_values), path)
    settings = Settings(home=copied, feature_repo=copied / "repository")
    definitions = apply_definitions(settings).definitions
    interactions = settings.workspace.tables / "interactions.parquet"
    dataset, _ = build_dataset(definitions, interactions, settings.workspace.datasets, "wide")
    registry = Registry.of(settings)
    dataset.record(registry)
    torch.manual_seed(2)
    model = RetrievalFormer(ModelConfig(dim=16, layers=2, heads=2, max_history=8), dataset.encoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        model.interaction_gate.fill_(0.7)
    path = settings.workspace.runs / "wide-run"
    save_model(path / "best", model.eval())
    (path / "metrics.json").write_text("{}")
    registry.start_run("wide-run", dataset=dataset.name, recipe="tiny", config={}, path=path)
    registry.finish_run("wide-run", {})
    assert build_bundle(registry, settings.workspace.bundles, "wide-run").record.name == WIDE
    return copied


@pytest.fixture
def wider(home_of_wider: Path, tmp_path: Path, copy_workspace: Callable[[Path, Path], Path]) -> Settings:
    """A workspace of its own with a bundle of today's definitions, ``WIDE``, and one of yesterday's, ``FIRST``, promoted."""
    copied = copy_workspace(home_of_wider, tmp_path / "home")
    settings = Settings(home=copied, feature_repo=copied / "repository")
    from rf_platform.features.apply import apply_definitions

    apply_definitions(settings)  # the tables lie elsewhere now
    return settings


@pytest.fixture
def pair_registry(pair: Settings) -> "Registry":
    """Its registry."""
    from rf_platform.registry import Registry

    return Registry.of(pair)


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    """Wait for a condition: ``wait_until(condition, seconds)``."""

    def wait(condition: Callable[[], object], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come to pass in time"
            time.sleep(0.005)

    return wait


@pytest.fixture(scope="session")
def go_build() -> Callable[..., None]:
    """Compiles a program in Go with what is there: nothing is fetched."""
    if shutil.which("go") is None:
        pytest.skip("needs go")
    if not (GO_PATH / "src/google.golang.org/grpc").exists():
        pytest.skip("needs apt-get install golang-google-grpc-dev")

    def build(source: Path, made: Path, *roots: Path) -> None:
        path = os.pathsep.join(map(str, (*roots, GO_PATH)))
        environment = {**os.environ, "GO111MODULE": "off", "GOPATH": path, "GOFLAGS": "-p=1"}
        command = ["go", "build", "-o", str(made), str(source)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr

    return build


@pytest.fixture(scope="session")
def go_client(go_build: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client in Go, compiled."""
    made = tmp_path_factory.mktemp("go") / "client"
    go_build(CLIENTS / "client.go", made)
    return made


@pytest.fixture(scope="session")
def node_modules() -> str:
    """A folder where ``npm install @grpc/grpc-js`` was run."""
    if shutil.which("node") is None:
        pytest.skip("needs node")
    if (found := os.environ.get("RF_TEST_NODE_MODULES")) is None:
        pytest.skip("needs RF_TEST_NODE_MODULES: the node_modules of npm install @grpc/grpc-js")
    return found
