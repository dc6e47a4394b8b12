"""Semantic ids: codes by hand, prefixes that neighbours share, and what they are bound to."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rf_platform.errors import ConfigError
from rf_platform.features.encode import FeatureEncoder
from rf_platform.features.growth import grow
from rf_platform.features.jagged import EncodedTable, Jagged
from rf_platform.features.semantic_ids import NO_CODE, SemanticIds, learn_semantic_ids
from rf_platform.features.spec import EntitySpec, FeatureSpec, FieldSpec, SemanticSpec
from rf_platform.features.spec_fit import SpecFit
from rf_platform.features.vocabulary import UNKNOWN_ID, Vocabulary

TWO_BY_TWO = SemanticSpec(levels=2, codes=2)
PLAIN = FeatureSpec(
    service="s",
    user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
    item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
    fields=(FieldSpec(view="v", field="x", side="item", kind="vector", role="feature", dtype="Array(Float32)"),),
    domains=(),
    history_length=5,
)
SPEC = replace(PLAIN, semantic=TWO_BY_TWO)


def points(*values: float | None) -> EncodedTable:
    vectors = np.array([np.nan if v is None else v for v in values], np.float32).reshape(-1, 1)
    return EncodedTable(rows=len(values), vectors={"v__x": vectors})


def bags(**features: list[list[int]]) -> EncodedTable:
    rows = len(next(iter(features.values())))
    ids = {}
    for name, lists in features.items():
        values = np.array([value for each in lists for value in each], np.int64)
        ids[name] = Jagged(values, np.array([len(each) for each in lists], np.int32))
    return EncodedTable(rows=rows, ids=ids)


def encoder() -> FeatureEncoder:
    learned = learn_semantic_ids(TWO_BY_TWO, points(0, 1, 10, 11))
    one, two = learned.prefixes(points(0, 1, 10))  # training never met the one of 11
    known = {"item_id": [1, 2, 3], "semantic_id_1": sorted({*one.tolist()}), "semantic_id_2": sorted({*two.tolist()})}
    return FeatureEncoder(
        spec=SPEC,
        vocabularies={
            name: Vocabulary(SPEC.domain(name), pa.array(values), np.ones(len(values), np.int64))
            for name, values in known.items()
        },
        numeric={},
        widths={"v__x": 1},
        semantic=learned,
    )


def items(*values: float | None) -> pa.Table:
    vectors = pa.array([None if v is None else [v] for v in values], pa.list_(pa.float32()))
    return pa.table({"item_id": list(range(100, 100 + len(values))), "v__x": vectors})


def test_the_first_code_says_where_and_the_second_which_side() -> None:
    """Centres 0.5 and 10.5, then what is left is -0.5 or 0.5 in both."""
    learned = learn_semantic_ids(TWO_BY_TWO, points(0, 1, 10, 11))
    first, second = learned.prefixes(points(0, 1, 10, 11))
    assert first[0] == first[1] != first[2] == first[3]
    assert sorted(first.tolist()) == [0, 0, 1, 1]
    assert (second // 2).tolist() == first.tolist()
    assert second[0] % 2 == second[2] % 2 != second[1] % 2 == second[3] % 2
    new_first, new_second = learned.prefixes(points(10.2, 0.9, None))
    assert new_first.tolist() == [first[2], first[1], NO_CODE]
    assert new_second.tolist() == [second[2], second[1], NO_CODE]


def test_each_dense_feature_counts_alike() -> None:
    """One is a thousand times as long as the other: both decide."""
    both = EncodedTable(
        rows=4,
        vectors={
            "v__a": np.array([[1], [1], [-1], [-1]], np.float32),
            "v__b": np.array([[1000], [-1000], [1000], [-1000]], np.float32),
        },
    )
    (codes,) = learn_semantic_ids(SemanticSpec(levels=1, codes=4), both).prefixes(both)
    assert len({*codes.tolist()}) == 4
    vectors, _ = learn_semantic_ids(SemanticSpec(levels=1, codes=4), both).content.vectors(both)
    np.testing.assert_allclose(np.abs(vectors), 1, rtol=1e-6)


def test_without_dense_features_attributes_decide() -> None:
    known = bags(v__genres=[[2, 3], [3, 2], [4], [5], []], v__brand=[[2], [2], [3], [4], []])
    codes = learn_semantic_ids(SemanticSpec(levels=1, codes=3), known).prefixes(known)[0]
    assert codes[0] == codes[1]
    assert len({*codes[[0, 2, 3]].tolist()}) == 3
    assert codes[4] == NO_CODE
    unknown = bags(v__genres=[[UNKNOWN_ID], [2, 3, UNKNOWN_ID]], v__brand=[[UNKNOWN_ID], [2]])
    again = learn_semantic_ids(SemanticSpec(levels=1, codes=3), known).prefixes(unknown)[0]
    assert again.tolist() == [NO_CODE, codes[0]]


@pytest.mark.parametrize("values", [[], [None, None], [5.0], [5.0, 5.0]])
def test_little_or_no_content_is_no_failure(values: list[float | None]) -> None:
    learned = learn_semantic_ids(TWO_BY_TWO, points(*values))
    assert [p.tolist() for p in learned.prefixes(points(5.0, None))] == [[0, NO_CODE]] * 2


def test_items_get_the_prefixes_that_training_knows() -> None:
    encoded = encoder().encode_items(items(0.1, 10, 11, None))
    first, second = (encoded.ids[name] for name in SPEC.semantic.names)  # type: ignore[union-attr]
    assert first.lengths.tolist() == second.lengths.tolist() == [1, 1, 1, 0]
    assert (first.values > UNKNOWN_ID).all()
    assert first.values[1] == first.values[2]
    assert (second.values == UNKNOWN_ID).tolist() == [False, False, True]


def test_they_are_kept_and_part_of_the_hash(tmp_path: Path) -> None:
    before = encoder()
    before.save(tmp_path)
    after = FeatureEncoder.load(SPEC, tmp_path)
    assert after.hash == before.hash
    assert before.semantic is not None
    assert after.semantic is not None
    some = points(0.1, 10.9, None)
    for was, now in zip(before.semantic.prefixes(some), after.semantic.prefixes(some), strict=True):
        np.testing.assert_array_equal(was, now)
    moved = SemanticIds(before.semantic.content, (before.semantic.codebooks[0] + 1, before.semantic.codebooks[1]), 2)
    assert replace(before, semantic=moved).hash != before.hash


def test_a_spec_without_them_is_as_it_was() -> None:
    assert "semantic" not in PLAIN.to_dict()
    assert PLAIN.hash != SPEC.hash
    assert FeatureSpec.from_dict(SPEC.to_dict()) == SPEC
    fit = SpecFit.of(SPEC, PLAIN)
    assert (fit.unmet, fit.changed) == ((), ("semantic ids 2x2 -> none",))  # a model has its own codebooks


def test_a_model_goes_on_with_its_codebooks() -> None:
    before = encoder()
    other = learn_semantic_ids(TWO_BY_TWO, points(3, 4, 70, 71))
    domain = SPEC.domain("semantic_id_2")
    theirs = Vocabulary(domain, pa.array([3, 0]), np.ones(2, np.int64))  # numbers of other prefixes
    dataset = replace(before, semantic=other, vocabularies={**before.vocabularies, domain.name: theirs})
    grown = grow(before, dataset).encoder
    assert grown.semantic is before.semantic
    assert grown.vocabularies["semantic_id_2"].values.equals(before.vocabularies["semantic_id_2"].values)
    wider = replace(SPEC, semantic=SemanticSpec(levels=2, codes=3))
    with pytest.raises(ConfigError, match=r"other levels or codes.*train a new model"):
        grow(before, replace(before, spec=wider))


@pytest.mark.parametrize("text", ["", "3", "0x4", "5x4", "3x1", "3x5000", "x", "3x256x2"])
def test_a_tag_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"here; write LEVELSxCODES.*3x256"):
        SemanticSpec.parse(text, "here")
