"""Curves, size, settings and the map, each by hand."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from rf_platform.features.spec import FieldSpec
from rf_training.notes import read_notes
from rf_training.report.collect import Curve, binned, compare_settings, read_curves, recipe_values
from rf_training.report.item_map import choose_colouring, principal_plane
from rf_training.report.model_size import TableSize, model_size


def test_a_resumed_run_is_one_curve(tmp_path: Path) -> None:
    for first, values, purge in ((1, [5.0, 4.0, 3.0], None), (2, [7.0, 6.0], 2)):
        with SummaryWriter(str(tmp_path), purge_step=purge, filename_suffix=f".{first}") as board:
            for step, value in enumerate(values, first):
                board.add_scalar("train/loss", value, step)
    recorded = read_curves(tmp_path)
    assert recorded is not None
    assert recorded.curves["train/loss"].steps.tolist() == [1, 2, 3]
    assert recorded.curves["train/loss"].values.tolist() == [5, 7, 6]
    assert 0 <= recorded.seconds < 60


def test_no_curve_and_no_history(tmp_path: Path) -> None:
    assert read_curves(tmp_path) is None
    assert read_curves(tmp_path / "none") is None
    assert read_notes(tmp_path / "history.jsonl") == []


def test_neighbouring_points_are_joined() -> None:
    points = binned(Curve(np.array([10, 20, 30, 40]), np.array([1.0, 3.0, 5.0, 9.0])), most=2)
    assert points.steps.tolist() == [15, 35]
    assert points.mean.tolist() == [2, 7]
    assert points.low.tolist() == [1, 5]
    assert points.high.tolist() == [3, 9]


def test_a_short_curve_is_kept() -> None:
    assert binned(Curve(np.array([1, 2]), np.array([3.0, 4.0]))).mean.tolist() == [3, 4]


def test_size_of_a_model() -> None:
    size = model_size(
        {
            "embeddings.collection.embedding_bags.genre.weight": torch.zeros(3, 4),
            "embeddings.collection.embedding_bags.word.weight": torch.zeros(5, 4, dtype=torch.float16),
            "tower.project.weight": torch.zeros(4, 4),
            "gate": torch.zeros(()),
        }
    )
    assert size.parameters == 12 + 20 + 16 + 1
    assert list(size.parts.items()) == [("embeddings", 32), ("tower", 16), ("gate", 1)]
    assert size.tables == (
        TableSize(name="genre", rows=3, width=4, size=48),
        TableSize(name="word", rows=5, width=4, size=40),
    )
    assert size.table_bytes == 88


def test_settings_that_differ_from_the_recipe() -> None:
    config = {"model": {"dim": 8, "gone": 1}, "train": {"epochs": 2}}
    settings = compare_settings(config, {"model": {"dim": 8, "new": 3}, "train": {"epochs": 5}})
    assert [(s.name, s.recipe, s.changed) for s in settings] == [
        ("model.dim", 8, False),
        ("model.gone", None, True),
        ("train.epochs", 5, True),
    ]


def test_a_recipe_that_is_gone_marks_nothing() -> None:
    assert recipe_values("gone", None) is None
    assert not any(s.changed for s in compare_settings({"model": {"dim": 8}, "train": {}}, None))


def test_the_plane_shows_the_two_largest_directions() -> None:
    vectors = np.array([[4.0, 0, 0], [-4, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 1], [0, 0, -1]]) + 7
    points, explained = principal_plane(vectors)
    assert explained == pytest.approx((32 / 42, 8 / 42))
    np.testing.assert_allclose(points, [[4, 0], [-4, 0], [0, 2], [0, -2], [0, 0], [0, 0]], atol=1e-9)


def test_equal_vectors_and_vectors_of_one_component() -> None:
    points, explained = principal_plane(np.ones((3, 4), np.float32))
    assert not points.any()
    assert explained == (0, 0)
    assert principal_plane(np.array([[1.0], [3.0]]))[0].shape == (2, 2)


def _field(name: str, kind: str) -> FieldSpec:
    return FieldSpec(view="v", field=name, side="item", kind=kind, role="feature", dtype="?", domain=name)  # type: ignore[arg-type]


def test_colours_are_of_the_feature_that_covers_most() -> None:
    items = pa.table(
        {
            "v__constant": ["a"] * 5,
            "v__sparse": pa.array([1, None, 2, None, None]),
            "v__bag": [["x", "y"], ["y"], [], None, ["z", "y"]],
        }
    )
    fields = [_field("constant", "categorical"), _field("sparse", "categorical"), _field("bag", "multi")]
    colouring = choose_colouring(items, fields)
    assert colouring is not None
    assert colouring.field == "bag"
    assert colouring.values == ("y", "x", "z")
    assert colouring.codes.tolist() == [0, 0, 3, 3, 0]
    assert choose_colouring(items, fields[:1]) is None


def test_rare_values_share_a_colour() -> None:
    items = pa.table({"v__n": [*range(9), 8, 8, 7]})
    colouring = choose_colouring(items, [_field("n", "categorical")])
    assert colouring is not None
    assert colouring.values == ("8", "7", "0", "1", "2", "3", "4")
    assert colouring.codes.tolist() == [2, 3, 4, 5, 6, 7, 7, 1, 0, 0, 0, 1]
