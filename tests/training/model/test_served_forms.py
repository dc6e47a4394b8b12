"""Every tower, layout and fusion has a served form; tests/serving/test_query_encoding.py compares what they compute."""

from typing import get_args

from rf_training.model.blocks import TOWERS
from rf_training.model.config import Layout
from rf_training.model.fusion import FUSIONS
from rf_training.model.served import blocks
from rf_training.model.served.fusions import FORMS
from rf_training.model.served.layouts import LAYOUTS


def test_every_fusion_has_a_served_form() -> None:
    assert FORMS.keys() == FUSIONS.keys()


def test_every_tower_has_a_served_form() -> None:
    assert blocks.FORMS.keys() == TOWERS.keys()


def test_every_layout_has_a_served_form() -> None:
    assert LAYOUTS.keys() == set(get_args(Layout))
