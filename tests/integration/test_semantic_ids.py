"""Semantic ids from the tag of a service to an item that comes while a bundle is served."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rf_platform.cli.app import app
from rf_platform.dataset import Dataset
from rf_platform.settings import Settings, get_settings, use_home
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.item_encoder import ItemEncoder
from rf_serving.catalog.item_schema import ItemSchema

SMALL = ["train.epochs=1", "model.dim=16", "train.batch_size=8", "train.uniform_negatives=10"]


def rf(*arguments: str) -> None:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output + repr(result.exception)


def test_from_the_tag_to_an_upserted_item(workspace: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    home = workspace.home
    chosen = {"HOME": home, "FEATURE_REPO": workspace.feature_repo, "FEATURE_SERVICE": "retrieval_semantic"}
    for name, value in chosen.items():
        monkeypatch.setenv(f"RF_{name}", str(value))
    use_home(home)
    rf("dataset", "build")
    (path,) = (home / "datasets").glob("*-v*")
    dataset = Dataset.open(path)
    names = dataset.spec.semantic.names if dataset.spec.semantic else []
    assert names == ["semantic_id_1", "semantic_id_2", "semantic_id_3"]
    counts = [dataset.encoder.vocabularies[name].counts for name in names]
    assert [int(each.sum()) for each in counts] == [dataset.manifest["counts"]["train"]] * 3
    assert all((np.diff(each) <= 0).all() for each in counts)
    rf("dataset", "build")
    assert len(list((home / "datasets").glob("*-v*"))) == 1  # equal inputs, equal codes

    rf("train", "--name", "coded", *(part for setting in SMALL for part in ("--set", setting)))
    rf("index", "build", "coded")
    bundle = ServedBundle.open(home / "bundles" / "coded-1")
    assert bundle.encoder.hash == dataset.encoder.hash
    assert set(names) <= set(bundle.model.item_tokens.ids)

    # A new item of the same attributes as a known one has its codes; its id says nothing.
    schema, known = ItemSchema.of(bundle.encoder), bundle.item_ids[5]
    rows = schema.rows(schema.cast(dataset.items.take(dataset.current_items)))
    like = schema.table([known, 9001], [rows[bundle.row_of_item[known]]] * 2)
    encoded = bundle.encoder.encode_items(like)
    for name in names:
        assert encoded.ids[name].values[0] == encoded.ids[name].values[1]
    assert encoded.ids["item_id"].values[0] != encoded.ids["item_id"].values[1]
    assert ItemEncoder(bundle).encode(like).usable_N.all()

    rf("train", "--name", "one", *(part for s in [*SMALL, "model.semantic_ids=1"] for part in ("--set", s)))
    rf("index", "build", "one")
    assert [
        n for n in ServedBundle.open(Path(home / "bundles" / "one-1")).model.item_tokens.ids if n in names
    ] == names[:1]
    get_settings.cache_clear()
