"""Merges computed by hand."""

import numpy as np
import pytest

from rf_platform.policies import Source, Sources
from rf_serving.lists import merge

FOUND = {"model": np.array([1, 2, 3, 4, 5, 6]), "new": np.array([9, 2, 8]), "caller": np.array([7])}


def sources(merge: str, **quotas: float) -> Sources:
    return Sources.model_validate({"merge": merge, "use": [Source(source=k, quota=v) for k, v in quotas.items()]})


def test_quotas_are_kept_in_every_beginning_and_doubles_count_for_the_first() -> None:
    merged = merge(sources("quotas", model=2, new=1), FOUND)
    assert merged.rows.tolist() == [1, 2, 9, 3, 4, 8, 5, 6]
    assert merged.sources == ["model", "model", "new", "model", "model", "new", "model", "model"]
    assert merged.scores.tolist() == pytest.approx([1 / place for place in range(1, 9)])


def test_a_source_that_has_nothing_more_leaves_its_places_to_the_others() -> None:
    assert merge(sources("quotas", caller=5, new=1, model=0), FOUND).rows.tolist() == [7, 9, 2, 8, 1, 3, 4, 5, 6]
    assert merge(sources("quotas", lacking=1, new=1), FOUND).rows.tolist() == [9, 2, 8]
    assert merge(sources("quotas", lacking=1), FOUND).rows.tolist() == []


def test_reciprocal_ranks_add_up() -> None:
    merged = merge(sources("rank", model=1, new=0.5), FOUND)
    score = dict(zip(merged.rows.tolist(), merged.scores.tolist(), strict=True))
    assert score[2] == pytest.approx(1 / 62 + 0.5 / 62)
    assert score[9] == pytest.approx(0.5 / 61)
    assert merged.rows.tolist() == [2, 1, 3, 4, 5, 6, 9, 8]
    assert dict(zip(merged.rows.tolist(), merged.sources, strict=True))[2] == "model"
    assert merge(sources("rank", new=1, model=1), FOUND).rows.tolist()[:3] == [2, 9, 1]  # of equals the first source's
