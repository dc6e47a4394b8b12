"""docs/reranking.md names kinds and settings that exist; its rows of the paper are in docs/paper.md."""

import re
from dataclasses import fields
from pathlib import Path

from rf_training.rerank import RERANKERS, RerankConfig
from rf_training.rerank.recipe import RerankTraining

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "reranking.md").read_text(encoding="utf-8")


def test_kinds_and_settings_exist() -> None:
    assert all(f"| `{kind}` |" in TEXT for kind in RERANKERS)
    known = {"rerank": {f.name for f in fields(RerankConfig)}, "train": {f.name for f in fields(RerankTraining)}}
    named = re.findall(r"`(?:--set )?(rerank|train)\.([a-z_]+)(?:=[^`]*)?`", TEXT)
    assert len(named) > 5
    assert all(name in known[section] for section, name in named), named
