"""Texts of items from the definitions to an upserted item, and what happens where their encoder is gone."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from rf_platform.cli.app import app
from rf_platform.dataset import Dataset
from rf_platform.errors import ConfigError, RfError
from rf_platform.features.growth import grow
from rf_platform.features.spec import ITEM_ID_DOMAIN
from rf_platform.settings import Settings, get_settings, use_home
from rf_platform.texts import source
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.item_encoder import ItemEncoder
from rf_serving.catalog.item_schema import ItemSchema

TITLE = "item_text__title"
WORDS = {"war": [1.0, 0.0, 0.0], "love": [0.0, 2.0, 0.0], "star": [0.0, 0.0, 3.0], "night": [1.0, 1.0, 1.0]}
SMALL = ["train.epochs=1", "model.dim=16", "train.batch_size=8", "train.uniform_negatives=10"]


@pytest.fixture
def encoder(tmp_path: Path, write_static_encoder: Callable[..., Path]) -> Path:
    return write_static_encoder(tmp_path / "encoder", WORDS)


@pytest.fixture
def texts(workspace: Settings, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The workspace, with titles of known words."""
    path = workspace.home / "tables" / "items.parquet"
    table = pq.read_table(path)
    words, n = list(WORDS), table.num_rows
    titles = [None if i == 7 else "  " if i == 8 else f"{words[i % 4]} {words[i % 3]}" for i in range(n)]
    pq.write_table(table.set_column(table.column_names.index("title"), "title", pa.array(titles)), path)
    chosen = {
        "RF_HOME": workspace.home,
        "RF_FEATURE_REPO": workspace.feature_repo,
        "RF_FEATURE_SERVICE": "retrieval_text",
        "RF_TEXT_ENCODER": encoder,
    }
    for name, value in chosen.items():
        monkeypatch.setenv(name, str(value))
    use_home(workspace.home)
    fresh()
    yield workspace.home
    fresh()


def fresh() -> None:
    """Let encoders be looked for as in a new process."""
    get_settings.cache_clear()
    source._identity.cache_clear()
    source._vectors.cache_clear()


def rf(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def built(home: Path) -> Dataset:
    rf("dataset", "build")
    return Dataset.open(max((home / "datasets").glob("*-v*"), key=lambda path: path.stat().st_mtime))


def test_from_a_title_to_an_upserted_item(texts: Path, encoder: Path) -> None:
    dataset = built(texts)
    learned = dataset.encoder.texts[TITLE]
    assert dataset.spec.field(TITLE).kind == "text"
    assert dataset.encoder.widths[TITLE] == 3  # as many as there are directions

    # Whitened: the mean over the titles that training saw is zero, and their squared length one.
    trained = dataset.items.filter(pa.array(dataset.trained_items[dataset.item_of_version]))
    distinct = sorted({title for title in trained[TITLE].to_pylist() if title and title.strip()})
    vectors = learned.vectors(distinct)
    np.testing.assert_allclose(vectors.mean(axis=0), 0, atol=1e-5)
    assert (vectors**2).sum(axis=1).mean() == pytest.approx(1, rel=1e-3)
    encoded = dataset.encoder.encode_items(dataset.items)
    known = np.array([bool(title and title.strip()) for title in dataset.items[TITLE].to_pylist()])
    assert (~known).sum() == 2
    np.testing.assert_array_equal(np.isnan(encoded.vectors[TITLE]).all(axis=1), ~known)

    rf("train", "--name", "titled", *(part for setting in SMALL for part in ("--set", setting)))
    rf("index", "build", "titled")
    bundle = ServedBundle.open(texts / "bundles" / "titled-1")
    schema = ItemSchema.of(bundle.encoder)
    features = {"item_attributes__genres": ["Drama"]}
    war, again, love, blank = (
        ItemEncoder(bundle).encode(schema.table([id], [{**features, **given}])).vectors_ND[0]
        for id, given in ((9001, {TITLE: "war"}), (9002, {TITLE: " War "}), (9003, {TITLE: "love"}), (9004, {}))
    )
    np.testing.assert_array_equal(war, again)  # the id says nothing, white space neither
    assert np.abs(war - love).max() > 1e-4
    assert np.abs(war - blank).max() > 1e-4

    # As in the bundle, where the item was encoded with the catalog.
    item, row = bundle.item_ids[5], bundle.row_of_item[bundle.item_ids[5]]
    values = schema.rows(schema.cast(pq.read_table(bundle.path / "items.parquet")))[row]
    again = ItemEncoder(bundle).encode(schema.table([item], [values])).vectors_ND[0]
    np.testing.assert_allclose(again, bundle.vectors_ND[row], atol=1e-5)

    # Another encoder in its place is refused, and so is none; the one it was, elsewhere, is found by the settings.
    elsewhere = shutil.copytree(encoder, encoder.with_name("elsewhere"))
    (encoder / "config.json").write_text('{"model_type": "model2vec", "normalize": true}')
    fresh()
    with pytest.raises(ConfigError, match=rf"{TITLE} was encoded by.*is another encoder now"):
        ServedBundle.open(bundle.path)
    shutil.rmtree(encoder)
    fresh()
    with pytest.raises(ConfigError, match=rf"{TITLE} was encoded by.*neither a directory.*set RF_TEXT_ENCODER"):
        ServedBundle.open(bundle.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RF_TEXT_ENCODER", str(elsewhere))
        fresh()
        assert ServedBundle.open(bundle.path).encoder.hash == bundle.encoder.hash


def test_equal_texts_give_an_equal_fingerprint_and_another_encoder_does_not(
    texts: Path, write_static_encoder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = built(texts)
    shutil.rmtree(texts / "cache")
    fresh()
    assert built(texts).fingerprint == first.fingerprint
    other = write_static_encoder(tmp_path / "other", {**WORDS, "war": [5.0, 1.0, 0.0]})
    monkeypatch.setenv("RF_TEXT_ENCODER", str(other))
    fresh()
    second = built(texts)
    assert second.fingerprint != first.fingerprint
    assert second.encoder.hash != first.encoder.hash

    # A model goes on with the whitening that it knows, and with no other encoder.
    assert grow(first.encoder, first.encoder).encoder.texts[TITLE] is first.encoder.texts[TITLE]
    with pytest.raises(ConfigError, match=rf"{TITLE} was encoded by the text encoder.*train a new model"):
        grow(first.encoder, second.encoder)


def test_a_dataset_says_what_is_missing(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RF_TEXT_ENCODER", "nowhere")
    fresh()
    result = CliRunner().invoke(app, ["dataset", "build"])
    assert isinstance(result.exception, RfError)
    assert "item_text.title" in str(result.exception)
    assert "RF_TEXT_ENCODER" in str(result.exception)


def test_the_item_id_is_no_text(texts: Path) -> None:
    """What an item without a title is known by is its other features."""
    dataset = built(texts)
    encoded = dataset.encoder.encode_items(dataset.items.drop_columns([TITLE]))
    assert np.isnan(encoded.vectors[TITLE]).all()
    assert (encoded.ids[ITEM_ID_DOMAIN].lengths == 1).all()
