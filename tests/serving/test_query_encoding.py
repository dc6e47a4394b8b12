"""The encoding of requests against the encoding and the towers that training uses, over all kinds of features."""

from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rf_platform.errors import ConfigError, DataError, UsageError
from rf_platform.features.dtype import MISSING_INTEGER, Kind
from rf_platform.features.encode import FeatureEncoder, NumericStats
from rf_platform.features.jagged import EncodedTable
from rf_platform.features.spec import DomainSpec, EntitySpec, FeatureSpec, FieldSpec, Side
from rf_platform.features.vocabulary import Vocabulary
from rf_protos.v1.features_pb2 import FeatureValue
from rf_serving.catalog.item_schema import ItemSchema
from rf_serving.encoding import EncodedUser, OnlineEncoder, UserEncoder
from rf_serving.user_features.features import KnownFeatures
from rf_training.model.blocks import TOWERS
from rf_training.model.config import ModelConfig
from rf_training.model.fusion import FUSIONS
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.served import ServedTower, folded_tokens

MAX_HISTORY, WIDTH, ITEMS = 6, 3, 40
FORMS = [(tower, layout) for tower, kind in TOWERS.items() for layout in kind.layouts]
UTC_US = pa.timestamp("us", tz="UTC")
MISSING_TEXT = ""
FIELDS: dict[str, tuple[Side, Kind, str, str | None]] = {
    "gender": ("user", "categorical", "String", "gender"),
    "age": ("user", "categorical", "Int64", "age"),
    "zip": ("user", "categorical", "String", "hashed"),
    "likes": ("user", "multi", "Array(String)", "gender"),
    "income": ("user", "numeric", "Float32", None),
    "children": ("user", "numeric", "Int64", None),
    "joined": ("user", "timestamp", "UnixTimestamp", None),
    "face": ("user", "vector", "Array(Float32)", None),
    "kinds": ("context", "categorical", "Array(String)", "kind"),
    "hours": ("context", "categorical", "Array(Int64)", "age"),
    "pages": ("context", "categorical", "Array(Int64)", "hashed_int"),
    "ratings": ("context", "numeric", "Array(Float32)", None),
    "counts": ("context", "numeric", "Array(Int64)", None),
    "times": ("context", "timestamp", "Array(UnixTimestamp)", None),
}
ARROW = {
    "gender": pa.string(),
    "age": pa.int64(),
    "zip": pa.string(),
    "likes": pa.list_(pa.string()),
    "income": pa.float64(),
    "children": pa.int64(),
    "joined": UTC_US,
    "face": pa.list_(pa.float64()),
    "kinds": pa.string(),
    "hours": pa.int64(),
    "pages": pa.int64(),
    "ratings": pa.float64(),
    "counts": pa.int64(),
}
DOMAINS = {
    "gender": DomainSpec(name="gender", value_type="string"),
    "age": DomainSpec(name="age", value_type="int64"),
    "kind": DomainSpec(name="kind", value_type="string"),
    "item_id": DomainSpec(name="item_id", value_type="int64"),
    "hashed": DomainSpec(name="hashed", value_type="string", buckets=7),
    "hashed_int": DomainSpec(name="hashed_int", value_type="int64", buckets=5),
}
VALUES: dict[str, list[Any]] = {"gender": ["M", "F"], "age": [1, 18, 25], "kind": ["view", "buy"], "item_id": [1, 2]}


def encoder_of(*names: str) -> FeatureEncoder:
    fields = tuple(
        FieldSpec(
            view="v",
            field=name,
            side=side,
            kind=kind,
            role="history" if side == "context" else "feature",
            dtype=dtype,
            domain=domain,
            of=name if side == "context" else None,
        )
        for name, (side, kind, dtype, domain) in FIELDS.items()
        if name in names
    )
    item = FieldSpec(view="v", field="x", side="item", kind="numeric", role="feature", dtype="Float32")
    spec = FeatureSpec(
        service="s",
        user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
        item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
        fields=tuple(sorted((*fields, item), key=lambda f: f.name)),
        domains=tuple(DOMAINS.values()),
        history_length=50,
    )
    vocabularies = {
        name: Vocabulary.hashed(domain)
        if domain.buckets
        else Vocabulary(domain, pa.array(VALUES[name]), np.ones(len(VALUES[name]), np.int64))
        for name, domain in DOMAINS.items()
    }
    numeric = {f.name: NumericStats(2.0, 3.0) for f in spec.fields if f.kind in ("numeric", "timestamp")}
    return FeatureEncoder(spec=spec, vocabularies=vocabularies, numeric=numeric, widths={"v__face": WIDTH})


profiles = st.fixed_dictionaries(
    {},
    optional={
        "gender": st.sampled_from([None, MISSING_TEXT, "M", "F", "X"]),
        "age": st.sampled_from([None, MISSING_INTEGER, 18, 25, 99]),
        "zip": st.sampled_from([None, MISSING_TEXT, "1234", "é"]),
        "likes": st.none() | st.lists(st.sampled_from(["M", "F", "X", MISSING_TEXT, None]), max_size=3),
        "income": st.sampled_from([None, 0.0, -1.5, 1e30, -3.4e38, float("nan"), float("inf")]),
        "children": st.sampled_from([None, 0, 3, 2**31 - 1, MISSING_INTEGER]),
        "joined": st.sampled_from([None, 0, 10**15, -(10**17)]),
        "face": st.sampled_from([None, [], [0.1, 0.2, 0.3], [1.0, None, 3.0], [3.4e38, -1e30, 0.0]]),
    },
)
VISITS = {
    "kinds": st.sampled_from([None, MISSING_TEXT, "view", "buy", "look"]),
    "hours": st.sampled_from([None, MISSING_INTEGER, 1, 18, 77]),
    "pages": st.sampled_from([None, MISSING_INTEGER, 5, -5]),
    "ratings": st.sampled_from([None, float("nan"), 0.5, 5.0, 1e38, -1e30]),
    "counts": st.sampled_from([None, MISSING_INTEGER, 0, 2**40, 2**63 - 1, -(2**63)]),
}


@st.composite
def requests(draw: st.DrawFn) -> KnownFeatures:
    length = draw(st.integers(0, MAX_HISTORY + 3))
    given_names = draw(st.sets(st.sampled_from(sorted(VISITS))))
    context = {
        f"v__{name}": draw(st.lists(VISITS[name], min_size=length, max_size=length)) for name in sorted(given_names)
    }
    gaps = draw(st.lists(st.integers(0, 10**9), min_size=length, max_size=length))
    timed = draw(st.booleans())
    return KnownFeatures(
        {f"v__{name}": value for name, value in draw(profiles).items()},
        np.array(draw(st.lists(st.integers(0, ITEMS - 1), min_size=length, max_size=length)), np.int64),
        np.cumsum(gaps, dtype=np.int64) if timed else None,
        context,
    )


def by_training(encoder: FeatureEncoder, batch: list[KnownFeatures]) -> tuple[EncodedTable, EncodedTable]:
    """Encode requests as tables of Arrow columns, as datasets are."""
    spec = encoder.spec
    users = {f.name: [r.profile.get(f.name) for r in batch] for f in spec.inputs("user")}
    lengths = [min(len(r.rows), MAX_HISTORY) for r in batch]
    visits: dict[str, list[Any]] = {}
    for f in spec.inputs("context"):
        if f.kind != "timestamp":
            columns = [r.context.get(f.name, [None] * len(r.rows)) for r in batch]
            visits[f.name] = [v for c, n in zip(columns, lengths, strict=True) for v in c[len(c) - n :]]
    times: list[int] = []
    first: list[bool] = []
    for r, n in zip(batch, lengths, strict=True):
        known = r.timestamps
        times += [0] * n if known is None else known[len(known) - n :].tolist()
        first += [True] * n if known is None else [i == 0 for i in range(n)]

    def table(columns: dict[str, list[Any]], rows: int) -> pa.Table:
        arrays = {name: pa.array(values, ARROW[name.removeprefix("v__")]) for name, values in columns.items()}
        return pa.table({"": pa.nulls(rows), **arrays})

    return (
        encoder.encode(table(users, len(batch)), spec.inputs("user")),
        encoder.encode_context(table(visits, sum(lengths)), np.array(times, np.int64), np.array(first, np.bool_)),
    )


def assert_same(found: EncodedTable, expected: EncodedTable) -> None:
    assert found.rows == expected.rows
    assert set(found.ids) == set(expected.ids)
    for name, ids in expected.ids.items():
        np.testing.assert_array_equal(found.ids[name].values, ids.values, err_msg=name)
        np.testing.assert_array_equal(found.ids[name].lengths, ids.lengths, err_msg=name)
        assert found.ids[name].values.dtype == ids.values.dtype
        assert found.ids[name].lengths.dtype == ids.lengths.dtype
    for mine, theirs in ((found.numbers, expected.numbers), (found.vectors, expected.vectors)):
        assert set(mine) == set(theirs)
        for name in theirs:
            np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)
            assert mine[name].dtype == theirs[name].dtype


@settings(max_examples=120, deadline=None)
@given(batch=st.lists(requests(), min_size=1, max_size=4))
def test_requests_are_encoded_as_training_data_is(batch: list[KnownFeatures]) -> None:
    encoder = encoder_of(*FIELDS)
    online = OnlineEncoder(encoder, MAX_HISTORY)
    users, visits = by_training(encoder, batch)
    assert_same(online.profiles(batch), users)
    assert_same(online.interactions(batch), visits)


def model_of(encoder: FeatureEncoder, **config: Any) -> RetrievalFormer:
    """Return a model none of whose weights is where training starts."""
    torch.manual_seed(0)
    model = RetrievalFormer(ModelConfig(**{"dim": 8, "layers": 2, "max_history": MAX_HISTORY, **config}), encoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def batch_of(seed: int) -> list[KnownFeatures]:
    rng = np.random.default_rng(seed)
    batch = []
    for length in (3, 0, MAX_HISTORY + 2, 1):
        drawn: dict[str, list[Any]] = {
            "gender": ["M", None],
            "age": [18, 25],
            "income": [None, 1.5],
            "joined": [7_500_000],
            "face": [[0.1, 0.2, 0.3], None],
        }
        profile = {f"v__{name}": [*values, None][int(rng.integers(2))] for name, values in drawn.items()}
        context = {
            "v__kinds": rng.choice(["view", "buy", "", "x"], length).tolist(),
            "v__hours": rng.choice([1, 18, 77], length).tolist(),
            "v__ratings": rng.choice([0.5, np.nan, 4.0], length).tolist(),
        }
        times = np.cumsum(rng.integers(0, 10**9, length))
        batch.append(KnownFeatures(profile, rng.integers(0, ITEMS, length), times if length != 1 else None, context))
    return [*batch, KnownFeatures({}, np.zeros(0, np.int64), None, {})]


@torch.inference_mode()
def expected_queries(
    model: RetrievalFormer, encoder: FeatureEncoder, batch: list[KnownFeatures], tokens_ND: torch.Tensor | None = None
) -> np.ndarray:
    """Return the query vectors by the modules that training uses."""
    users, visits = (FeatureTensors.from_encoded(table) for table in by_training(encoder, batch))
    lengths = torch.tensor([min(len(r.rows), MAX_HISTORY) for r in batch])
    rows = np.concatenate([r.rows[-MAX_HISTORY:] for r in batch])
    tokens_ND = tokens_of(model) if tokens_ND is None else tokens_ND
    z_VD = model.encode_interactions(tokens_ND[rows], visits)
    seconds_V = model.seconds(visits)
    u_BD = model.encode_users(z_VD, lengths, model.encode_profiles(users)[:, None], seconds_V=seconds_V)[:, 0]
    found: np.ndarray = model.query_vectors(u_BD).numpy()
    return found


def tokens_of(model: RetrievalFormer) -> torch.Tensor:
    return torch.randn(ITEMS, model.config.dim, generator=torch.Generator().manual_seed(1))


class Catalog:
    """As much of a catalog as encoding asks for."""

    def __init__(self, tokens: np.ndarray) -> None:
        self._tokens = tokens

    def tokens(self, rows: np.ndarray) -> np.ndarray:
        found: np.ndarray = self._tokens[rows]
        return found


def encode_users(
    model: RetrievalFormer, encoder: FeatureEncoder, batch: list[KnownFeatures], tokens_ND: torch.Tensor | None = None
) -> list[EncodedUser | DataError]:
    class Bundle:
        spec = encoder.spec

    bundle: Any = Bundle()
    bundle.model, bundle.encoder = model, encoder
    return UserEncoder(bundle).encode_users(
        batch, cast(Any, Catalog((tokens_of(model) if tokens_ND is None else tokens_ND).numpy()))
    )


def encode(
    model: RetrievalFormer, encoder: FeatureEncoder, batch: list[KnownFeatures], tokens_ND: torch.Tensor | None = None
) -> list[Any]:
    found = encode_users(model, encoder, batch, tokens_ND)
    return [each if isinstance(each, DataError) else each.query_D for each in found]


SINGLE = ("gender", "age", "income", "joined", "face", "kinds", "hours", "ratings", "times")


@pytest.mark.parametrize(("tower", "layout"), FORMS)
@pytest.mark.parametrize("fusion", tuple(FUSIONS))
@pytest.mark.parametrize("features", [(), SINGLE, (*SINGLE, "likes"), ("gender", "age"), ("times", "face")])
def test_queries_are_those_of_the_towers(tower: str, layout: str, fusion: str, features: tuple[str, ...]) -> None:
    encoder = encoder_of(*features)
    model = model_of(encoder, tower=tower, layout=layout, fusion=fusion)
    batch = batch_of(0)
    expected = expected_queries(model, encoder, batch)
    np.testing.assert_allclose(encode(model, encoder, batch), expected, atol=2e-6)
    alone = [encode(model, encoder, [request])[0] for request in batch]
    np.testing.assert_allclose(alone, expected, atol=2e-6)


@pytest.mark.parametrize("block", ["transformer:TransformerBlock", "hstu:HstuBlock"])
@pytest.mark.parametrize("layout", ["prefix", "side"])
def test_blocks_of_other_packages_are_exported(block: str, layout: str) -> None:
    """By a dotted name the table's own blocks are as unknown as those of other packages."""
    encoder = encoder_of(*SINGLE)
    model = model_of(encoder, tower=f"rf_training.model.blocks.{block}", layout=layout, fusion="mean")
    expected = expected_queries(model, encoder, batch_of(0))
    np.testing.assert_allclose(encode(model, encoder, batch_of(0)), expected, atol=2e-6)
    np.testing.assert_allclose(encode(model, encoder, batch_of(0)[:1]), expected[:1], atol=2e-6)


def test_a_block_that_cannot_be_exported_is_named() -> None:
    encoder = encoder_of(*SINGLE)
    model = model_of(encoder, tower="rf_training.model.blocks.filter:FilterBlock", layout="prefix", fusion="mean")
    with pytest.raises(ConfigError, match=r"the block FilterBlock cannot be exported to ONNX .*view_as_complex"):
        ServedTower(model, encoder.spec)


@pytest.mark.parametrize(("tower", "layout"), FORMS)
@pytest.mark.parametrize("fusion", ["mean", "attention"])
def test_tokens_and_outputs_are_those_of_the_towers(tower: str, layout: str, fusion: str) -> None:
    encoder = encoder_of(*SINGLE)
    model = model_of(encoder, tower=tower, layout=layout, fusion=fusion)
    batch = batch_of(0)
    users, visits = (FeatureTensors.from_encoded(table) for table in by_training(encoder, batch))
    lengths = [min(len(r.rows), MAX_HISTORY) for r in batch]
    rows = np.concatenate([r.rows[-MAX_HISTORY:] for r in batch])
    with torch.inference_mode():
        z_VD = model.encode_interactions(tokens_of(model)[rows], visits)
        u_BRD = model.encode_users(
            z_VD, torch.tensor(lengths), model.encode_profiles(users)[:, None], seconds_V=model.seconds(visits)
        )
        u_BD = u_BRD[:, 0]
    for found, z_TD, u_D in zip(encode_users(model, encoder, batch), torch.split(z_VD, lengths), u_BD, strict=True):
        assert isinstance(found, EncodedUser)
        np.testing.assert_allclose(found.tokens_TD, z_TD, atol=2e-6)
        np.testing.assert_allclose(found.user_D, u_D, atol=1e-5)


@pytest.mark.parametrize(("tower", "layout"), FORMS)
def test_histories_of_one_length_are_answered_alike_in_any_company(tower: str, layout: str) -> None:
    encoder = encoder_of(*SINGLE)
    model = model_of(encoder, tower=tower, layout=layout, fusion="mean")
    several = [*batch_of(4), *batch_of(5)]
    full = [request for request in several if len(request.rows) > MAX_HISTORY]
    assert len(full) == 2
    expected = expected_queries(model, encoder, full)
    np.testing.assert_allclose(encode(model, encoder, full), expected, atol=2e-6)
    np.testing.assert_allclose(encode(model, encoder, [*several, *full])[-2:], expected, atol=2e-6)


OTHERS: dict[str, dict[str, Any]] = {
    "narrow features": {"feature_dim": 5},
    "a table for each feature": {"share_domains": False},
    "bias": {"item_bias": True},
    "sums": {"bag_pooling": "sum"},
    "attention over bags": {"bag_pooling": "attention"},
    "one layer": {"layers": 1},
}


@pytest.mark.parametrize(("tower", "layout"), FORMS)
@pytest.mark.parametrize("config", OTHERS.values(), ids=OTHERS)
def test_queries_are_those_of_other_models(config: dict[str, Any], tower: str, layout: str) -> None:
    for features in (SINGLE, (*SINGLE, "likes")):
        encoder = encoder_of(*features)
        model = model_of(encoder, tower=tower, layout=layout, **config)
        expected = expected_queries(model, encoder, batch_of(1))
        np.testing.assert_allclose(encode(model, encoder, batch_of(1)), expected, atol=2e-6)


@pytest.mark.parametrize(("tower", "layout"), FORMS)
@pytest.mark.parametrize("fusion", ["mean", "attention"])
def test_items_that_lie_far_from_zero_are_encoded_as_exactly(tower: str, layout: str, fusion: str) -> None:
    """Normalising takes the mean out: what is left must not have suffered."""
    encoder = encoder_of(*SINGLE)
    model = model_of(encoder, tower=tower, layout=layout, fusion=fusion, dim=64)
    for tokens_ND in (tokens_of(model) + 30, tokens_of(model) * 100):
        expected = expected_queries(model, encoder, batch_of(0), tokens_ND)
        np.testing.assert_allclose(encode(model, encoder, batch_of(0), tokens_ND), expected, atol=2e-6)
    alike = torch.full((ITEMS, 64), 20.3)  # of an item's token rounding is all that is left
    expected = expected_queries(model, encoder, batch_of(0), alike)
    np.testing.assert_allclose(encode(model, encoder, batch_of(0), alike), expected, atol=1e-3)


@pytest.mark.parametrize(("tower", "layout"), FORMS)
def test_users_without_a_history_are_encoded_together(tower: str, layout: str) -> None:
    encoder = encoder_of(*SINGLE)
    model = model_of(encoder, tower=tower, layout=layout)
    batch = [KnownFeatures(request.profile, np.zeros(0, np.int64), None, {}) for request in batch_of(0)]
    expected = expected_queries(model, encoder, [*batch, *batch_of(0)])[: len(batch)]
    np.testing.assert_allclose(encode(model, encoder, batch), expected, atol=2e-6)


@pytest.mark.parametrize(("tower", "layout"), FORMS)
def test_a_closed_gate_and_large_tables_change_nothing(
    tower: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of(*SINGLE)
    model = model_of(encoder, tower=tower, layout=layout)
    with torch.no_grad():
        model.interaction_gate.zero_()
    closed = expected_queries(model, encoder, batch_of(2))
    np.testing.assert_allclose(encode(model, encoder, batch_of(2)), closed, atol=2e-6)
    with torch.no_grad():
        model.interaction_gate.fill_(0.5)
    opened = expected_queries(model, encoder, batch_of(2))
    assert np.abs(opened - closed).max() > 1e-3
    monkeypatch.setattr(folded_tokens, "FOLDED_BYTES", 0)
    assert ServedTower(model, encoder.spec)._folded == {"user": None, "context": None}
    np.testing.assert_allclose(encode(model, encoder, batch_of(2)), opened, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "stored", "read"),
    [
        ("income", "much", None),
        ("income", 1e37, 2.0 + 20 * 3.0),
        ("income", -(2**63), 2.0 - 20 * 3.0),
        ("income", [1.0], None),
        ("face", [1.0], None),
        ("face", [1e37, 0.0, -1e9], [1e6, 0.0, -1e6]),
        ("age", [18], None),
    ],
)
def test_a_stored_value_that_does_not_fit_is_missing_and_an_extreme_one_bounded(
    name: str, stored: Any, read: Any
) -> None:
    """Numbers count within 20 deviations of 3 from the mean 2, elements of vectors within a million."""
    encoder = encoder_of(*SINGLE)
    model = model_of(encoder)
    batch = batch_of(3)
    asked, meant = (KnownFeatures({f"v__{name}": value}, batch[0].rows, None, {}) for value in (stored, read))
    expected = encode(model, encoder, [*batch[:2], meant, *batch[2:]])
    found = encode(model, encoder, [*batch[:2], asked, *batch[2:]])
    np.testing.assert_allclose(found, expected, atol=2e-6)
    if read is None:
        missing = KnownFeatures({}, batch[0].rows, None, {})
        np.testing.assert_allclose(found[2], encode(model, encoder, [missing])[0], atol=2e-6)


@settings(max_examples=60, deadline=None)
@given(batch=st.lists(requests(), min_size=1, max_size=3))
def test_whatever_is_stored_the_query_is_a_direction(batch: list[KnownFeatures]) -> None:
    encoder = encoder_of(*SINGLE)
    queries = np.array(encode(model_of(encoder), encoder, batch))
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-4)


NUMBERS = st.floats(allow_nan=False) | st.sampled_from([1e30, -1e38, 3.4e38, 1e308, 5e-324, 2.0 + 3e4, 2.0 - 3e4, 0.0])


@settings(max_examples=60, deadline=None)
@given(numbers=st.lists(NUMBERS, min_size=1, max_size=4))
def test_every_item_that_is_taken_in_is_a_direction_and_survives_the_journal(numbers: list[float]) -> None:
    encoder = encoder_of(*SINGLE)
    model, schema = model_of(encoder), ItemSchema.of(encoder)
    taken = []
    for number in numbers:
        try:
            taken.append(schema.read({"v__x": FeatureValue(double_value=number)}, "items[0].features"))
        except UsageError:
            refused = abs(number - 2) > 3e4 * (1 - 1e-6)  # 10,000 deviations of 3 from the mean 2
            assert refused
    assert [schema.parse(schema.text(values)).values for values in taken] == taken
    if taken:
        items = encoder.encode_items(schema.table(list(range(100, 100 + len(taken))), taken))
        with torch.inference_mode():
            h_ND = model.encode_items(FeatureTensors.from_encoded(items))
        np.testing.assert_allclose(torch.nn.functional.normalize(h_ND, dim=-1).norm(dim=-1), 1, atol=1e-4)
