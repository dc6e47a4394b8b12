"""Id maps that grow: known values keep their ids, nothing changes its meaning in silence."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rf_platform.errors import ConfigError, CorruptError
from rf_platform.features.encode import FeatureEncoder, NumericStats
from rf_platform.features.growth import grow
from rf_platform.features.lineage import FIRST_VERSION, Ancestor, Lineage
from rf_platform.features.spec import DomainSpec, EntitySpec, FeatureSpec, FieldSpec
from rf_platform.features.vocabulary import Vocabulary, arrow_type


def field(name: str, kind: str, domain: str | None = None, **changed: Any) -> FieldSpec:
    plain: dict[str, Any] = {"view": "items", "side": "item", "role": "feature", "dtype": "", "of": None}
    return FieldSpec(field=name, kind=kind, domain=domain, **{**plain, **changed})  # type: ignore[arg-type]


GENRES, PRICE, PICTURE = field("genres", "multi", "genre"), field("price", "numeric"), field("picture", "vector")
SHOP = field("shop", "categorical", "shop")
SHOPS = DomainSpec(name="shop", value_type="int64", buckets=16)


def encoder(
    genres: dict[str, int],
    items: tuple[int, ...] = (7, 5),
    *,
    price: NumericStats | None = None,
    fields: tuple[FieldSpec, ...] = (GENRES, PRICE, PICTURE, SHOP),
    shops: DomainSpec = SHOPS,
    width: int = 3,
) -> FeatureEncoder:
    """An encoder as a dataset has it: values with their training events, most frequent first."""
    names = {f.domain for f in fields}
    genre = DomainSpec(name="genre", value_type="string")
    domains = tuple(d for d in (genre, shops) if d.name in names)
    spec = FeatureSpec(
        service="s",
        user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
        item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
        fields=fields,
        domains=domains,
        history_length=5,
    )
    learned: dict[str, dict[Any, int]] = {"genre": genres, "item_id": dict.fromkeys(items, 1)}
    return FeatureEncoder(
        spec=spec,
        vocabularies={
            d.name: Vocabulary.hashed(d)
            if d.buckets
            else Vocabulary(
                d, pa.array(list(learned[d.name]), arrow_type(d.value_type)), np.array(list(learned[d.name].values()))
            )
            for d in spec.embedding_domains
        },
        numeric={f.name: price or NumericStats(10.0, 2.0) for f in fields if f.kind == "numeric"},
        widths={f.name: width for f in fields if f.kind == "vector"},
    )


BEFORE = encoder({"Drama": 9, "Comedy": 5, "Western": 2})
AFTER = encoder({"Musical": 20, "Comedy": 12, "Drama": 11, "Anime": 1}, (5, 9, 7), price=NumericStats(14.0, 4.0))


def test_known_values_keep_their_ids_and_new_ones_follow_by_frequency() -> None:
    grown = grow(BEFORE, AFTER).encoder.vocabularies["genre"]
    assert grown.values.to_pylist() == ["Drama", "Comedy", "Western", "Musical", "Anime"]
    assert grown.counts.tolist() == [11, 12, 0, 20, 1]
    values = pa.array(["Drama", "Comedy", "Western"])
    assert grown.encode(values).tolist() == BEFORE.vocabularies["genre"].encode(values).tolist()
    assert AFTER.vocabularies["genre"].encode(values).tolist() != grown.encode(values).tolist()


def test_what_became_of_the_values() -> None:
    growth = {d.domain: d for d in grow(BEFORE, AFTER).domains}
    genre, item, shop = growth["genre"], growth["item_id"], growth["shop"]
    assert (genre.rows_before, genre.rows, genre.kept, genre.new, genre.vanished) == (5, 7, 2, 2, 1)
    assert (item.rows_before, item.rows, item.kept, item.new, item.vanished) == (4, 5, 2, 1, 0)
    assert (shop.rows_before, shop.rows, shop.kept, shop.new, shop.vanished) == (18, 18, 0, 0, 0)


def test_hashed_values_keep_their_buckets() -> None:
    values = pa.array([1, 2, 3, 99], pa.int64())
    grown = grow(BEFORE, AFTER).encoder.vocabularies["shop"]
    assert grown.encode(values).tolist() == BEFORE.vocabularies["shop"].encode(values).tolist()


def test_numbers_go_on_being_standardised_as_the_model_knows_them() -> None:
    growth = grow(BEFORE, AFTER)
    assert growth.encoder.numeric == BEFORE.numeric
    (drift,) = growth.drift
    assert (drift.feature, drift.shift, drift.stretch) == ("items__price", 2.0, 2.0)


def test_a_value_that_comes_back_has_the_row_it_had() -> None:
    """Grown twice: a value without events in between, and one that is new in between."""
    once = grow(BEFORE, AFTER).encoder
    twice = grow(once, encoder({"Western": 30, "Musical": 4}))
    assert twice.encoder.vocabularies["genre"].values.to_pylist() == once.vocabularies["genre"].values.to_pylist()
    assert {d.domain: (d.kept, d.new, d.vanished) for d in twice.domains}["genre"] == (2, 0, 3)


def test_features_come_and_go_by_name() -> None:
    year = field("year", "categorical", "genre")
    growth = grow(BEFORE, encoder({"Drama": 1}, fields=(GENRES, year)))
    assert growth.new_fields == ("items__year",)
    assert growth.gone_fields == ("items__picture", "items__price", "items__shop")
    assert set(growth.encoder.vocabularies) == {"genre", "item_id"}
    back = grow(growth.encoder, AFTER)
    assert back.encoder.numeric == AFTER.numeric
    assert {d.domain: d.rows_before for d in back.domains} == {"genre": 5, "shop": 0, "item_id": 4}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"fields": (replace(GENRES, kind="categorical"), PRICE)},
            r"items\.genres has the kind 'categorical'.*'multi'",
        ),
        ({"fields": (replace(GENRES, side="user"), PRICE)}, r"items\.genres has the side 'user'"),
        ({"shops": replace(SHOPS, buckets=32)}, r"domain 'shop' is vocabulary=hash:32.*vocabulary=hash:16"),
        ({"width": 4}, r"items__picture has vectors of 4 numbers.*trained with 3"),
    ],
)
def test_what_means_something_else_is_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        grow(BEFORE, encoder({"Drama": 1}, **changed))


def test_a_hash_is_of_the_content(tmp_path: Path) -> None:
    BEFORE.save(tmp_path)
    assert FeatureEncoder.load(BEFORE.spec, tmp_path).hash == BEFORE.hash
    sliced = replace(BEFORE.vocabularies["genre"], values=pa.array(["x", "Drama", "Comedy", "Western"])[1:])
    assert replace(BEFORE, vocabularies={**BEFORE.vocabularies, "genre": sliced}).hash == BEFORE.hash
    other = encoder({"Comedy": 9, "Drama": 5, "Western": 2})
    assert len({BEFORE.hash, AFTER.hash, other.hash, replace(BEFORE, numeric=AFTER.numeric).hash}) == 4


def test_a_lineage_is_that_of_the_id_maps_beside_it(tmp_path: Path) -> None:
    growth = grow(BEFORE, AFTER)
    parent = Ancestor(
        bundle="b-1",
        manifest_sha256="0" * 64,
        run="b",
        dataset_fingerprint="f",
        version=FIRST_VERSION,
        encoder_hash=BEFORE.hash,
    )
    lineage = Lineage.of(growth, parent, dataset="tiny-v2", fingerprint="g")
    assert lineage.version == 2
    lineage.save(tmp_path / "lineage.json")
    assert Lineage.load(tmp_path / "lineage.json", growth.encoder) == lineage
    with pytest.raises(CorruptError, match=r"lineage\.json.*other values"):
        Lineage.load(tmp_path / "lineage.json", AFTER)
    (tmp_path / "lineage.json").write_text('{"version": 2}')
    with pytest.raises(CorruptError, match="parent"):
        Lineage.load(tmp_path / "lineage.json", growth.encoder)
