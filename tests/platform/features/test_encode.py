"""Ids, numbers and vectors from raw values."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rf_platform.errors import DataError
from rf_platform.features.columns import PlainColumn
from rf_platform.features.dtype import MISSING_INTEGER
from rf_platform.features.encode import FeatureEncoder, NumericStats, time_gaps
from rf_platform.features.jagged import EncodedTable, Jagged
from rf_platform.features.spec import DomainSpec, EntitySpec, FeatureSpec, FieldSpec
from rf_platform.features.vocabulary import Vocabulary


def field(name: str, kind: str, domain: str | None = None) -> FieldSpec:
    return FieldSpec(view="v", field=name, side="item", kind=kind, role="feature", dtype="?", domain=domain)  # type: ignore[arg-type]


GENRE = DomainSpec(name="genre", value_type="string")
YEAR = DomainSpec(name="year", value_type="int64")
HASHED = DomainSpec(name="hashed", value_type="string", buckets=10)
ITEM_ID = DomainSpec(name="item_id", value_type="int64")
FIELDS = (
    field("genres", "multi", "genre"),
    field("hash", "categorical", "hashed"),
    field("price", "numeric"),
    field("vec", "vector"),
    field("year", "categorical", "year"),
)
PAGES = FieldSpec(view="v", field="pages", side="context", kind="numeric", role="history", dtype="Array(Int64)")
JOINED = field("joined", "timestamp")
Encode = Callable[..., EncodedTable]
SPEC = FeatureSpec(
    service="s",
    user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
    item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
    fields=FIELDS,
    domains=(GENRE, HASHED, ITEM_ID, YEAR),
    history_length=5,
)


def encoder() -> FeatureEncoder:
    def learned(domain: DomainSpec, values: list[object]) -> Vocabulary:
        kind = pa.string() if domain.value_type == "string" else pa.int64()
        return Vocabulary(domain, pa.array(values, kind), np.arange(len(values), 0, -1))

    return FeatureEncoder(
        spec=SPEC,
        vocabularies={
            "genre": learned(GENRE, ["Drama", "Comedy"]),
            "year": learned(YEAR, [1995, 1996]),
            "item_id": learned(ITEM_ID, [7, 8]),
            "hashed": Vocabulary.hashed(HASHED),
        },
        numeric=dict.fromkeys(("v__price", "v__pages", "v__joined"), NumericStats(mean=10.0, std=2.0)),
        widths={"v__vec": 2},
    )


def table(**columns: object) -> pa.Table:
    return pa.table({f"v__{k}": v for k, v in columns.items()})


def by_arrow(fields: Sequence[FieldSpec], **columns: Any) -> EncodedTable:
    return encoder().encode(table(**columns), fields)


def by_lists(fields: Sequence[FieldSpec], **columns: Any) -> EncodedTable:
    plain = {name: column.to_pylist() if isinstance(column, pa.Array) else column for name, column in columns.items()}
    encoded = EncodedTable(rows=len(next(iter(plain.values()))))
    for f in fields:
        encoder().encode_column(f, PlainColumn(plain[f.field]), encoded)
    return encoded


both_forms = pytest.mark.parametrize("encode", [by_arrow, by_lists])


@both_forms
def test_ids_padding_unknown_and_known(encode: Encode) -> None:
    encoded = encode([FIELDS[4]], year=[1995, None, 1700, 1996, MISSING_INTEGER])
    assert encoded.ids["v__year"].lengths.tolist() == [1, 0, 1, 1, 0]
    assert encoded.ids["v__year"].values.tolist() == [2, 1, 3]


@both_forms
def test_multi_valued_drops_nulls_inside_and_outside(encode: Encode) -> None:
    column = pa.array([["Comedy", None, "?"], None, [], ["Drama"], ["", "Drama"]], pa.list_(pa.string()))
    encoded = encode([FIELDS[0]], genres=column)
    assert encoded.ids["v__genres"].lengths.tolist() == [2, 0, 0, 1, 1]
    assert encoded.ids["v__genres"].values.tolist() == [3, 1, 2, 2]


def test_sliced_lists_keep_their_rows() -> None:
    column = pa.array([["Drama"], ["Comedy"], None, ["Drama", "Comedy"]], pa.list_(pa.string()))
    encoded = encoder().encode(table(genres=column).slice(1), [FIELDS[0]])
    assert encoded.ids["v__genres"].lengths.tolist() == [1, 0, 2]
    assert encoded.ids["v__genres"].values.tolist() == [3, 2, 3]


@both_forms
def test_hashing_is_stable_and_in_range(encode: Encode) -> None:
    ids = encode([FIELDS[1]], hash=["a", "b", "a", None, ""]).ids["v__hash"]
    assert ids.lengths.tolist() == [1, 1, 1, 0, 0]
    assert ids.values[0] == ids.values[2]
    assert ids.values.tolist() == [6, 7, 6]  # a change of these would scramble every trained model
    assert encoder().vocabularies["hashed"].rows == 12


@both_forms
def test_numbers_are_standardised_and_missing_is_nan(encode: Encode) -> None:
    numbers = encode([FIELDS[2]], price=[12.0, None, np.inf]).numbers["v__price"]
    np.testing.assert_array_equal(numbers, np.array([1.0, np.nan, np.nan], np.float32))


@both_forms
def test_a_marker_is_missing_in_a_history_alone(encode: Encode) -> None:
    numbers = encode([PAGES], pages=[12, None, MISSING_INTEGER]).numbers["v__pages"]
    np.testing.assert_array_equal(numbers, np.array([1.0, np.nan, np.nan], np.float32))
    assert encode([FIELDS[2]], price=[MISSING_INTEGER]).numbers["v__price"].tolist() == [-20]


@both_forms
def test_times_count_in_seconds(encode: Encode) -> None:
    column = pa.array([14_000_000, None, 10_500_000], pa.int64())
    column = column.cast(pa.timestamp("us", tz="UTC")) if encode is by_arrow else column
    numbers = encode([JOINED], joined=column).numbers["v__joined"]
    np.testing.assert_array_equal(numbers, np.array([2.0, np.nan, 0.25], np.float32))


@both_forms
def test_no_number_counts_for_more_than_twenty_deviations(encode: Encode) -> None:
    prices = pa.array([49.9, 51.0, -1e30, 1e308, 5e-324])
    numbers = encode([FIELDS[2]], price=prices).numbers["v__price"]
    np.testing.assert_allclose(numbers, [19.95, 20, -20, 20, -5], rtol=1e-6)
    whole = encode([FIELDS[2]], price=[2**63 - 1, -(2**63), 2**53 + 1]).numbers["v__price"]
    assert whole.tolist() == [20, -20, 20]


def test_no_element_of_a_vector_counts_for_more_than_a_million() -> None:
    vectors = encoder().encode(table(vec=[[1e300, 1.0], [-3e38, 1e6], [1e5, 0.0]]), [FIELDS[3]]).vectors["v__vec"]
    np.testing.assert_array_equal(vectors, [[np.nan, np.nan], [-1e6, 1e6], [1e5, 0.0]])


@both_forms
def test_vectors_and_their_width(encode: Encode) -> None:
    vectors = encode([FIELDS[3]], vec=[[1.0, 2.0], None, []]).vectors["v__vec"]
    np.testing.assert_array_equal(vectors, [[1, 2], [np.nan, np.nan], [np.nan, np.nan]])
    assert vectors.dtype == np.float32
    for broken in (np.inf, -np.inf, np.nan, None):
        vectors = encode([FIELDS[3]], vec=[[1.0, broken], [1.0, 2.0]]).vectors["v__vec"]
        np.testing.assert_array_equal(vectors, [[np.nan, np.nan], [1, 2]])
    with pytest.raises(DataError, match=r"v\.vec has a vector of 3 numbers.*trained with 2"):
        encode([FIELDS[3]], vec=[[1.0, 2.0], [1.0, 2.0, 3.0]])


def test_wrong_type_names_the_field() -> None:
    with pytest.raises(DataError, match=r"v\.year.*string"):
        encoder().encode(table(year=["MCMXCV"]), [FIELDS[4]])


def test_absent_column_is_missing() -> None:
    encoded = encoder().encode(table(year=[1995]), FIELDS)
    assert encoded.ids["v__genres"].lengths.tolist() == [0]
    assert np.isnan(encoded.numbers["v__price"]).all()
    assert np.isnan(encoded.vectors["v__vec"]).all()


def test_item_id_is_a_feature_and_a_new_item_is_unknown() -> None:
    encoded = encoder().encode_items(pa.table({"item_id": [8, 99]}))
    assert encoded.ids["item_id"].values.tolist() == [3, 1]


def test_take_gathers_rows() -> None:
    jagged = Jagged(np.array([1, 2, 3, 4]), np.array([1, 0, 3], np.int32))
    taken = jagged.take(np.array([2, 1, 0, 2]))
    assert taken.lengths.tolist() == [3, 0, 1, 3]
    assert taken.values.tolist() == [2, 3, 4, 1, 2, 3, 4]


def test_saved_encoder_encodes_the_same(tmp_path: object) -> None:
    from pathlib import Path

    directory = Path(str(tmp_path))
    before = encoder()
    before.save(directory)
    after = FeatureEncoder.load(SPEC, directory)
    rows = table(year=[1996, 3], genres=[["Drama"], None], price=[1.0, 2.0], vec=[[0.0, 1.0], None], hash=["q", "r"])
    a, b = before.encode(rows, FIELDS), after.encode(rows, FIELDS)
    for name in a.ids:
        assert a.ids[name].values.tolist() == b.ids[name].values.tolist()
    np.testing.assert_array_equal(a.numbers["v__price"], b.numbers["v__price"])


def test_time_gaps() -> None:
    gaps = time_gaps(np.array([0, 1_000_000, 5, 5]), np.array([True, False, True, False]))
    np.testing.assert_allclose(gaps, [np.nan, np.log(2) / 10, np.nan, 0.0], rtol=1e-6)
