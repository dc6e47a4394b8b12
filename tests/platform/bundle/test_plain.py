import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest

from rf_platform.bundle import to_plain


class Colour(StrEnum):
    RED = "red"


@dataclass
class Config:
    rate: float
    path: Path


def test_what_programs_hold_becomes_json() -> None:
    value = {
        1: np.float32(0.5),
        "n": np.int64(3),
        "array": np.array([[1, 2], [3, 4]]),
        "bad": [float("nan"), float("inf"), np.float64("-inf"), np.array([np.nan])],
        "flag": np.bool_(True),
        "tuple": (1, None, True),
        "set": {2, 1},
        "config": Config(0.1, Path("a/b")),
        "colour": Colour.RED,
        "time": datetime(2026, 1, 2, tzinfo=UTC),
    }
    assert json.loads(json.dumps(to_plain(value), allow_nan=False)) == {
        "1": 0.5,
        "n": 3,
        "array": [[1, 2], [3, 4]],
        "bad": [None, None, None, [None]],
        "flag": True,
        "tuple": [1, None, True],
        "set": [1, 2],
        "config": {"rate": 0.1, "path": "a/b"},
        "colour": "red",
        "time": "2026-01-02T00:00:00Z",
    }


def test_what_has_no_json_form_is_named() -> None:
    with pytest.raises(TypeError, match="of type object cannot be written"):
        to_plain({"x": [object()]})
