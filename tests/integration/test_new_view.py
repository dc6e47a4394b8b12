"""One more feature view becomes part of dataset, model and bundle without a line of Python outside the feature repository."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from rf_platform.cli.app import app
from rf_platform.dataset import Dataset
from rf_platform.errors import UsageError
from rf_platform.features.spec import FeatureSpec
from rf_platform.registry import Registry
from rf_platform.settings import Settings, use_home
from rf_serving.retrieval.query import Query
from rf_serving.server.admission import Admission
from rf_serving.server.metrics import ServerMetrics
from rf_serving.server.options import ServeOptions
from rf_serving.server.wiring import build_components
from rf_training.model.storage import load_model

NAME = 'Stüdio & "Co." 1/2 - %s'
"""Whatever name Feast takes."""
NEW_VIEW = f"""
NAME = {NAME!r}
from entities import item
from feast import FeatureView, Field, FileSource
from feast.types import Array, Float32, Int64, String
from sources import TABLES

studio = FeatureView(
    name=NAME,
    online=False,
    entities=[item],
    source=FileSource(name="studio", path=f"{{TABLES}}/studio.parquet", timestamp_field="event_timestamp"),
    schema=[
        Field(name="label", dtype=String),
        Field(name="budget", dtype=Float32),
        Field(name="cast", dtype=Array(Int64)),
        Field(name="poster", dtype=Array(Float32)),
    ],
)
"""


def rf(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def test_a_new_view_reaches_the_bundle(workspace: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    home, repository = workspace.home, workspace.feature_repo
    assert repository is not None
    monkeypatch.setenv("RF_FEATURE_REPO", str(repository))
    monkeypatch.setenv("RF_HOME", str(home))
    use_home(home)
    rf("dataset", "build")
    settings = ["train.epochs=1", "model.dim=16", "train.batch_size=8", "train.uniform_negatives=10"]
    rf("train", "--name", "older", *(part for s in settings for part in ("--set", s)))
    rf("index", "build", "older")
    rf("promote", "older-1")

    rng = np.random.default_rng(0)
    pq.write_table(
        pa.table(
            {
                "item_id": np.arange(100, 140),
                "event_timestamp": pa.array([0] * 40, pa.timestamp("us", tz="UTC")),
                "label": [["A24", "Gaumont", None][i % 3] for i in range(40)],
                "budget": pa.array([None if i == 5 else float(i) for i in range(40)], pa.float32()),
                "cast": [[int(a) for a in rng.integers(0, 9, i % 4)] for i in range(40)],
                "poster": [[float(x) for x in rng.random(3)] if i % 10 else None for i in range(40)],
            }
        ),
        home / "tables" / "studio.parquet",
    )
    (repository / "studio.py").write_text(NEW_VIEW)
    services = repository / "services.py"
    services.write_text(
        services.read_text()
        .replace("from items import", "from studio import studio\nfrom items import")
        .replace("features=[", "features=[studio, ")
    )

    rf("features", "apply")
    assert NAME not in rf("features", "materialize")  # the server reads no features of items
    refused = CliRunner().invoke(app, ["features", "materialize", "--view", NAME])
    assert isinstance(refused.exception, UsageError)
    assert "online=False" in str(refused.exception)
    shown = json.loads(rf("features", "show", "--json"))
    kinds = {f["field"]: f["kind"] for f in shown["fields"] if f["view"] == NAME}
    assert kinds == {"label": "categorical", "budget": "numeric", "cast": "multi", "poster": "vector"}

    built = json.loads(rf("dataset", "build", "--json"))
    assert built["new"]
    assert built["spec_hash"] == shown["hash"]
    dataset = Dataset.open(Path(built["path"]))
    label, cast = (str(dataset.spec.field(f"{NAME}__{name}").domain) for name in ("label", "cast"))
    assert built["vocabularies"][label] == 2 + 2
    assert dataset.encoder.widths == {f"{NAME}__poster": 3}
    assert dataset.items[f"{NAME}__budget"].null_count >= 1

    assert served(workspace) == "older-1"  # a server starts with what it had
    rf("train", "--name", "wider", *(part for s in settings for part in ("--set", s)))
    bundle = json.loads(rf("index", "build", "wider", "--json"))

    directory = Path(bundle["path"])
    spec = FeatureSpec.load(directory / "spec.json")
    assert spec.hash == shown["hash"]
    record = Registry.of(Settings(home=home)).run("wider")
    model = load_model(record.path / "best", dataset.encoder)
    tables = dict(model.embeddings.collection.embedding_bags.items())
    assert tables[f"domain_{label}"].num_embeddings == 4
    assert f"domain_{cast}" in tables
    assert {f"{NAME}__label", f"{NAME}__cast"} <= set(model.item_tokens.ids)
    assert model.item_tokens.numbers == [f"{NAME}__budget"]
    assert model.item_tokens.vectors == [f"{NAME}__poster"]
    assert bundle["items"] == 40
    assert (directory / "encoder" / f"{cast}.parquet").exists()

    assert json.loads(rf("promote", "wider-1", "--json"))["notes"] == []
    assert served(workspace) == "wider-1"
    back = json.loads(rf("rollback", "--json"))
    assert back["bundle"] == "older-1"
    assert all(f"{NAME}__{field}" in back["notes"][0] for field in kinds)
    assert served(workspace) == "older-1"
    rf("promote", "wider-1", "--percent", "50")
    features = next(
        c
        for c in json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)["checks"]
        if c["name"] == "served features"
    )
    assert (features["status"], features["remedy"]) == ("ok", back["notes"][0])


def served(workspace: Settings) -> str:
    """Start what a server consists of, ask it about a user, and return the bundle that answers."""

    async def ask() -> str:
        with build_components(workspace, ServerMetrics(), ServeOptions(port=0), Admission(8)) as parts:
            answer = await parts.retriever.retrieve(Query(subject=1, k=5, exclude_seen=True), 60, degrade=False)
            assert len(answer.items) == 5
            return answer.bundle

    return asyncio.run(ask())


def test_training_warns_when_a_simple_baseline_is_better(workspace: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step of a model without identity learns nothing; whatever counts how often items were chosen knows more."""
    monkeypatch.setenv("RF_FEATURE_REPO", str(workspace.feature_repo))
    monkeypatch.setenv("RF_HOME", str(workspace.home))
    use_home(workspace.home)
    rf("dataset", "build")
    settings = [
        "train.epochs=1",
        "model.dim=2",
        "model.heads=1",
        "model.fusion_heads=1",
        "train.batch_size=64",
        "model.item_id=false",
    ]
    said = CliRunner().invoke(app, ["train", "--name", "weak", "--json", *(p for s in settings for p in ("--set", s))])
    assert said.exit_code == 0, said.output
    ahead = json.loads(said.stdout)["beaten_by"]
    assert "content-knn" in {b["baseline"] for b in ahead}
    assert all(b["value"] > b["model"] for b in ahead)
    assert "warning: content-knn beats the model on the validation split" in said.stderr
