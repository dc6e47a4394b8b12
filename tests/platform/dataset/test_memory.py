"""Memory of embedding tables, by hand; that of real models is compared in tests/training/model/test_memory.py."""

import pytest

from rf_platform.dataset.memory import memory_report
from rf_platform.features.dtype import Kind
from rf_platform.features.spec import DomainSpec, EntitySpec, FeatureSpec, FieldSpec, Side
from rf_platform.text import byte_size


def field(view: str, name: str, side: Side, kind: Kind, domain: str | None, of: str | None = None) -> FieldSpec:
    role = "history" if of else "feature"
    return FieldSpec(view=view, field=name, side=side, kind=kind, role=role, dtype="", domain=domain, of=of)  # type: ignore[arg-type]


SPEC = FeatureSpec(
    service="s",
    user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
    item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
    fields=(
        field("items", "genres", "item", "multi", "genre"),
        field("items", "price", "item", "numeric", None),
        field("past", "hours", "context", "categorical", "hour", of="hour"),
        field("past", "item_ids", "context", "categorical", "item_id", of="item_id"),
        field("users", "taste", "user", "categorical", "genre"),
    ),
    domains=tuple(DomainSpec(name=name, value_type="int64") for name in ("genre", "hour", "item_id", "unused")),
    history_length=5,
)
ROWS = {"genre": 10, "hour": 26, "item_id": 1002, "unused": 7}


def test_by_hand() -> None:
    report = memory_report(SPEC, ROWS, items=2000, dim=8)
    genre = next(t for t in report.with_item_id if t.domain == "genre")
    assert genre.uses == ("items__genres (item)", "items__genres (history)", "users__taste (user)")
    assert [(t.domain, t.parameters, t.unshared_parameters) for t in report.with_item_id] == [
        ("item_id", 1002 * 8, 2 * 1002 * 8),
        ("hour", 26 * 8, 26 * 8),
        ("genre", 10 * 8, 3 * 10 * 8),
    ]
    assert [t.domain for t in report.attributes] == ["hour", "genre"]
    assert {name: parameters for name, (parameters, _) in report.choices.items()} == {
        "one embedding per item": 16_000,
        "feature tables": 288,
        "feature tables, un-shared": 448,
        "feature tables and item id": 288 + 8016,
        "feature tables and item id, un-shared": 448 + 16_032,
    }


def test_optimisers_keep_two_floats_a_weight_or_one_a_row() -> None:
    sizes = memory_report(SPEC, ROWS, items=2000, dim=8).to_dict()["choices"]["feature tables"]
    assert sizes == {
        "parameters": 288,
        "rows": 36,
        "weights_bytes": 1152,
        "adamw_state_bytes": 2304,
        "rowwise_adagrad_state_bytes": 144,
    }


def test_attributes_may_have_another_width_than_ids() -> None:
    report = memory_report(SPEC, ROWS, items=2000, dim=8, feature_dim=3)
    assert {t.domain: t.dim for t in report.with_item_id} == {"item_id": 8, "hour": 3, "genre": 3}


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (5 << 50, "5,120.0 TiB")],
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert byte_size(count) == text
