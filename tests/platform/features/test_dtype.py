"""Types of features agree with the libraries that hold their values, and specs are stored as they always were."""

from typing import get_args

import duckdb
import feast.types
import pyarrow as pa
import pytest
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values

from rf_platform.features.dtype import ELEMENTS, SUPPORTED, Dtype, Kind
from rf_platform.features.spec import EntitySpec, FeatureSpec, FieldSpec
from rf_protos.v1.features_pb2 import FeatureValue

ALL = [Dtype(name, is_list) for name in ELEMENTS for is_list in (False, True)]


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_names_are_those_of_feast(dtype: Dtype) -> None:
    element = getattr(feast.types, dtype.element)
    assert str(dtype) == str(feast.types.Array(element) if dtype.is_list else element)
    assert Dtype.of(str(dtype)) == dtype
    assert Dtype.of(str(dtype)).single == Dtype(dtype.element)


def test_types_that_no_model_reads_keep_their_names() -> None:
    for name in ("Json", "Array(Bytes)", "Set(String)"):
        assert str(Dtype.of(name)) == name
        assert Dtype.of(name).kinds == ()


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_duckdb_has_the_type(dtype: Dtype) -> None:
    found = duckdb.sql(f"SELECT NULL::{dtype.sql} AS x").types[0]
    assert dtype.fits(str(found)) or (dtype.element == "UnixTimestamp" and not dtype.is_list)
    assert not Dtype(dtype.element, not dtype.is_list).fits(str(found))


@pytest.mark.parametrize("dtype", SUPPORTED, ids=str)
def test_a_request_has_a_case_for_every_supported_type(dtype: Dtype) -> None:
    assert set(dtype.kinds) <= set(get_args(Kind))
    assert dtype.case in FeatureValue.DESCRIPTOR.fields_by_name


@pytest.mark.parametrize(
    "dtype", [each for each in ALL if each.is_list and each.single_values.missing is not None], ids=str
)
def test_markers_are_values_of_feasts_arrays(dtype: Dtype) -> None:
    feast_type = feast.types.Array(getattr(feast.types, dtype.element)).to_value_type()
    [value] = python_values_to_proto_values([[dtype.single_values.missing]], feast_type)
    assert isinstance(value, Value)
    assert value.WhichOneof("val") == f"{dtype.single_values.feast}_list_val"


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        (pa.int16(), "Int64"),
        (pa.bool_(), "Int64"),
        (pa.float32(), "Float32"),
        (pa.float64(), "Float64"),
        (pa.large_string(), "String"),
        (pa.timestamp("ms"), "UnixTimestamp"),
        (pa.list_(pa.string()), "Array(String)"),
        (pa.large_list(pa.int32()), "Array(Int64)"),
        (pa.list_(pa.list_(pa.string())), None),
        (pa.binary(), None),
    ],
    ids=str,
)
def test_the_type_of_a_column(column: pa.DataType, dtype: str | None) -> None:
    found = Dtype.of_arrow(column)
    assert (None if found is None else str(found)) == dtype


@pytest.mark.parametrize("dtype", [each for each in ALL if each.element not in ("Int32", "Bool")], ids=str)
def test_what_arrow_holds_of_a_type_is_of_that_type(dtype: Dtype) -> None:
    """Int32 and Bool are kept in wider columns, or as truth values."""
    assert Dtype.of_arrow(dtype.arrow) == dtype


def test_a_spec_is_stored_and_hashed_as_before_types_were_objects() -> None:
    def field(name: str, dtype: str) -> FieldSpec:
        return FieldSpec(view="v", field=name, side="item", kind="numeric", role="display", dtype=dtype)

    spec = FeatureSpec(
        service="retrieval",
        user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
        item=EntitySpec(name="item", join_key="item_id", id_type="string"),
        fields=tuple(field(f"f{n}", str(dtype)) for n, dtype in enumerate(SUPPORTED)),
        domains=(),
        history_length=7,
    )
    assert [f["dtype"] for f in spec.to_dict()["fields"]][-2:] == ["Array(Float32)", "Array(Float64)"]
    assert spec.hash == "b11cfa1b08bf0ea5f9caf0473925e11e9d241849e7d6fa0b62172c487d1f2dee"
    assert FeatureSpec.from_dict(spec.to_dict()).hash == spec.hash
