"""Training and evaluation read the same history the same way: the loader's batches against the scorer's queries.

Every event of the data has values of its own (rating, hour, event type, distance to the event before, profile before it), and
all weights have moved from where they start, so a shift by one event, a wrong version or a gap that should not be there shows.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from rf_platform.dataset import Dataset
from rf_platform.dataset.build import BuildOptions, build_dataset
from rf_platform.features.dtype import Kind
from rf_platform.features.read import FeatureDefinitions, ViewSource
from rf_platform.features.spec import DomainSpec, EntitySpec, FeatureSpec, FieldSpec, Side
from rf_training.config import Recipe, TrainConfig
from rf_training.loading.batches import BatchLoader
from rf_training.loading.order import WholeShuffle
from rf_training.loading.windows import Windows
from rf_training.model.blocks import TOWERS
from rf_training.model.config import Layout, ModelConfig
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model_scorer import ModelScorer
from rf_training.step import batch_loss

MICROSECONDS = pa.timestamp("us", tz="UTC")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2024, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
EVENTS = (3, 4, 5, 6, 8, 11, 15)
"""Events of each user; the last two are held out, so the first user has one training event and no history before it."""
STEADY = (2, 4, 5)
"""Users whose profile never changes."""
ITEMS = 25
HISTORY = 4


def field(
    view: str, name: str, side: Side, kind: Kind, dtype: str, domain: str | None = None, of: str | None = None
) -> FieldSpec:
    role = "history" if of else "feature"
    return FieldSpec(view=view, field=name, side=side, kind=kind, role=role, dtype=dtype, domain=domain, of=of)  # type: ignore[arg-type]


FIELDS = (
    field("items", "genres", "item", "multi", "Array(String)", "genre"),
    field("items", "price", "item", "numeric", "Float32"),
    field("past", "event_types", "context", "categorical", "Array(String)", "event", of="event_type"),
    field("past", "hours", "context", "categorical", "Array(Int64)", "hour", of="hour"),
    field("past", "item_ids", "context", "categorical", "Array(Int64)", "item_id", of="item_id"),
    field("past", "ratings", "context", "numeric", "Array(Float32)", of="rating"),
    field("past", "times", "context", "timestamp", "Array(UnixTimestamp)", of="event_timestamp"),
    field("users", "age_group", "user", "categorical", "Int64", "age"),
    field("users", "income", "user", "numeric", "Float32"),
)
TYPES = {"age": "int64", "event": "string", "genre": "string", "hour": "int64", "item_id": "int64"}
SPEC = FeatureSpec(
    service="test",
    user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
    item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
    fields=FIELDS,
    domains=tuple(DomainSpec(name=k, value_type=v) for k, v in sorted(TYPES.items())),  # type: ignore[arg-type]
    history_length=10,
)


def table(path: Path, types: dict[str, pa.DataType], rows: list[tuple[Any, ...]]) -> None:
    columns = zip(*rows, strict=True)
    arrays = {name: pa.array(c, kind) for (name, kind), c in zip(types.items(), columns, strict=True)}
    pq.write_table(pa.table(arrays), path)


def make(home: Path, late_change: bool, odd_rating: float | None = None) -> Dataset:
    """Build the data.

    Args:
        home: where.
        late_change: whether all items get new values after the last event of the log.
        odd_rating: rating of every fifth event, where missing ratings would be otherwise.
    """
    rng = np.random.default_rng(0)
    (home / "tables").mkdir(parents=True)
    log: list[tuple[Any, ...]] = []
    profiles: list[tuple[Any, ...]] = []
    trained_on: dict[int, datetime] = {}
    for user, count in enumerate(EVENTS):
        when = START + timedelta(hours=7 * user)
        for position, item in enumerate(rng.permutation(ITEMS)[:count].tolist()):
            n = len(log)
            when += timedelta(seconds=float(rng.integers(1, 10 ** int(rng.integers(1, 7)))))
            rating = odd_rating if n % 5 == 2 else float(rng.normal())
            hour = None if n % 7 == 3 else n % 24
            log.append((user, item, when, f"kind {n % 11}", rating, hour, n))
            if position < count - 2:
                trained_on[item] = min(when, trained_on.get(item, when))
            if user not in STEADY:
                profiles.append((user, when - TICK, n, float(rng.normal())))
        if user in STEADY:
            profiles.append((user, EPOCH, 1000 + user, float(rng.normal())))
    items: list[tuple[Any, ...]] = []
    for item in range(ITEMS):
        changes = [
            EPOCH,
            trained_on.get(item, START) - TICK,
        ]  # earlier held-out events see the first, training the second
        changes += [max(e[2] for e in log) + timedelta(days=1)] if late_change else []
        prices = np.random.default_rng([1, item]).normal(size=len(changes)).tolist()
        items += [(item, t, [f"g{(item + 3 * n) % 7}", f"h{n}"], prices[n]) for n, t in enumerate(changes)]
    integer, text, number = pa.int64(), pa.string(), pa.float32()
    known = {"event_timestamp": MICROSECONDS}
    table(
        home / "tables" / "interactions.parquet",
        {"user_id": integer, "item_id": integer, **known, "event_type": text, "rating": number, "hour": integer}
        | {"input_order": integer},
        log,
    )
    table(
        home / "tables" / "users.parquet",
        {"user_id": integer, **known, "age_group": integer, "income": number},
        profiles,
    )
    table(
        home / "tables" / "items.parquet",
        {"item_id": integer, **known, "genres": pa.list_(text), "price": number},
        items,
    )
    sides: tuple[tuple[str, Side], ...] = (("items", "item"), ("users", "user"))
    sources = tuple(
        ViewSource(
            view=view,
            side=side,
            path=str(home / "tables" / f"{view}.parquet"),
            join_key=f"{side}_id",
            timestamp="event_timestamp",
            created=None,
            ttl=None,
            columns={f.field: f.field for f in FIELDS if f.view == view},
        )
        for view, side in sides
    )
    definitions = FeatureDefinitions(spec=SPEC, sources=sources)
    log_path = home / "tables" / "interactions.parquet"
    return build_dataset(definitions, log_path, home / "datasets", "changing", BuildOptions(threads=1))[0]


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    dataset = make(tmp_path_factory.mktemp("parity"), late_change=False)
    trained = np.unique(dataset.sequences.item_version[training_events(dataset)])
    before = dataset.items["item"].to_numpy()[trained] == dataset.items["item"].to_numpy()[trained - 1]
    assert before.sum() >= 2  # items with a state older than the one that training saw
    return dataset


def moved_model(dataset: Dataset, layout: Layout, tower: str = "transformer") -> RetrievalFormer:
    torch.manual_seed(0)
    model = RetrievalFormer(ModelConfig(dim=16, max_history=HISTORY, layout=layout, tower=tower), dataset.encoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    return model.eval()


def make_loader(dataset: Dataset, model: RetrievalFormer, overlap: float = 0.0) -> BatchLoader:
    train = TrainConfig(uniform_negatives=3, overlap=overlap, precision="float32")
    return BatchLoader(dataset, Recipe(name="t", model=model.config, train=train))


def all_windows(loader: BatchLoader) -> Windows:
    return next(loader.order.in_order())


def last_reads(
    loader: BatchLoader, model: RetrievalFormer, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> Tensor:
    """Run a training step on some windows and return the query vector of each window's last position, [windows, D]."""
    read: list[Tensor] = []
    encode = model.encode_users

    def keep(*arguments: Any) -> Tensor:
        read.append(encode(*arguments))
        return read[-1]

    batch = loader.batch(all_windows(loader).take(rows), np.random.default_rng(0))
    with monkeypatch.context() as patch, torch.inference_mode():
        patch.setattr(model, "encode_users", keep)
        loss = batch_loss(model, batch, loader.recipe.train).loss
    assert torch.isfinite(loss)
    return model.query_vectors(read[0][torch.arange(len(rows)), batch.real_BR.sum(1) - 1])


def expected(dataset: Dataset, model: RetrievalFormer, target: np.ndarray) -> Tensor:
    """What the scorer says just before each target event."""
    offsets = np.asarray(dataset.sequences.offsets)
    users = np.searchsorted(offsets, target, side="right") - 1
    return ModelScorer(model, dataset).queries(users, target - offsets[users])


def training_events(dataset: Dataset) -> np.ndarray:
    return np.flatnonzero(np.asarray(dataset.sequences.split) == 0)


def one_target_each(dataset: Dataset, loader: BatchLoader) -> None:
    """Give the loader one window for every training event, with that event as its only target."""
    offsets, target = np.asarray(dataset.sequences.offsets), training_events(dataset)
    begin = offsets[np.searchsorted(offsets, target, side="right") - 1]
    windows = Windows(start=np.maximum(begin, target - HISTORY), first_target=target, stop=target + 1)
    loader.order = WholeShuffle(windows, batch_size=32, seed=0)


FORMS = [(tower, layout) for tower, kind in TOWERS.items() for layout in kind.layouts]


@pytest.mark.parametrize(("tower", "layout"), FORMS)
def test_every_prefix_gives_the_same_query(
    changing: Dataset, monkeypatch: pytest.MonkeyPatch, tower: str, layout: Layout
) -> None:
    model = moved_model(changing, layout, tower)
    loader = make_loader(changing, model)
    one_target_each(changing, loader)
    target = training_events(changing)
    assert len(target) == sum(EVENTS) - 2 * len(EVENTS)
    found = last_reads(loader, model, np.arange(len(target)), monkeypatch)
    torch.testing.assert_close(found, expected(changing, model, target), atol=2e-5, rtol=1e-4)
    apart = torch.cdist(found, found) + torch.eye(len(found))
    assert apart.min() > 1e-2  # else equality would say nothing


@pytest.mark.parametrize(("tower", "layout"), FORMS)
@pytest.mark.parametrize("overlap", [0.0, 0.8])
def test_the_last_position_of_the_loaders_own_windows(
    changing: Dataset, monkeypatch: pytest.MonkeyPatch, tower: str, layout: Layout, overlap: float
) -> None:
    """Windows with many targets; in all layouts but ``cls`` tokens share the oldest profile: there it has to be the newest."""
    model = moved_model(changing, layout, tower)
    loader = make_loader(changing, model, overlap)
    windows = all_windows(loader)
    target = windows.stop - 1
    found = last_reads(loader, model, np.arange(len(target)), monkeypatch)
    wanted = expected(changing, model, target)
    user = np.searchsorted(np.asarray(changing.sequences.offsets), target, side="right") - 1
    comparable = torch.from_numpy(np.isin(user, STEADY) | (windows.first_target == target) | (layout == "cls"))
    assert int(comparable.sum()) > len(STEADY)
    torch.testing.assert_close(found[comparable], wanted[comparable], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("tower", "layout"), FORMS)
@pytest.mark.parametrize("positions", ["all", "one"])
def test_a_state_of_a_user_reaches_the_position_that_knows_it_and_none_before(
    changing: Dataset, tower: str, layout: Layout, positions: Literal["all", "one"]
) -> None:
    """From the loader to the query: change what is known of users just before one of their events, event by event."""
    model = moved_model(changing, layout, tower)
    loader = make_loader(changing, model)
    loader.recipe = replace(loader.recipe, train=replace(loader.recipe.train, positions=positions))
    windows, version, users = all_windows(loader), np.asarray(changing.sequences.user_version), loader.sides.users
    drawn = loader.batch(windows, np.random.default_rng(0))
    target = (torch.from_numpy(windows.start)[:, None] + drawn.read_BR + 1)[drawn.real_BR].numpy()
    of_user = np.searchsorted(np.asarray(changing.sequences.offsets), target, side="right")

    def queries() -> Tensor:
        batch = loader.batch(windows, np.random.default_rng(0))
        p_PD = model.encode_profiles(batch.sides["user"])
        z_VD = torch.randn(len(batch.item_V), 16, generator=torch.Generator().manual_seed(0))
        seconds_V = model.seconds(batch.numbers)
        u_BRD = model.encode_users(z_VD, batch.length_B, p_PD[batch.profile_BR], batch.read_BR, seconds_V=seconds_V)
        return u_BRD[batch.real_BR]

    with torch.inference_mode():
        before = queries()
        for state in np.unique(version[target]):
            incomes = users.numbers["users__income"].copy()
            incomes[state] = 7.0
            loader.sides = replace(loader.sides, users=replace(users, numbers={"users__income": incomes}))
            moved = ((queries() - before).abs().amax(1) > 1e-6).numpy()
            knows = version[target] == state
            assert moved[knows].all()
            assert not moved[target < target[knows].min()].any()
            assert not moved[of_user != of_user[knows][0]].any()
            if layout == "cls":
                assert (moved == knows).all()


def test_a_window_does_not_depend_on_the_batch_it_is_in(changing: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model = moved_model(changing, "prefix")
    loader = make_loader(changing, model, 0.8)
    together = last_reads(loader, model, np.arange(len(loader.order)), monkeypatch)
    for row in range(len(loader.order)):
        alone = last_reads(loader, model, np.array([row]), monkeypatch)
        torch.testing.assert_close(alone[0], together[row], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("tower", "layout"), FORMS)
def test_what_items_become_after_the_log_changes_nothing(
    changing: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tower: str, layout: Layout
) -> None:
    """The scorer reads a history with the items as they were, not with values from the future."""
    later = make(tmp_path, late_change=True)
    assert later.items.num_rows > changing.items.num_rows
    model = moved_model(changing, layout, tower)
    loader = make_loader(later, model)
    one_target_each(later, loader)
    target = training_events(later)
    found = last_reads(loader, model, np.arange(len(target)), monkeypatch)
    torch.testing.assert_close(found, expected(changing, model, target), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(found, expected(later, model, target), atol=2e-5, rtol=1e-4)


def test_a_number_that_is_not_finite_is_a_missing_one_in_both(
    changing: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infinite = make(tmp_path, late_change=False, odd_rating=float("inf"))
    model = moved_model(changing, "prefix")
    loader = make_loader(infinite, model)
    one_target_each(infinite, loader)
    target = training_events(infinite)
    found = last_reads(loader, model, np.arange(len(target)), monkeypatch)
    torch.testing.assert_close(found, expected(changing, model, target), atol=2e-5, rtol=1e-4)


def test_every_value_of_the_history_matters(changing: Dataset) -> None:
    """Change one input of one event; the query after it must notice, or the comparisons above prove nothing."""
    model = moved_model(changing, "cls")
    user = len(EVENTS) - 1
    begin = int(changing.sequences.offsets[user])
    before = ModelScorer(model, changing).queries(np.array([user]), np.array([3]))
    changes: dict[str, Callable[[np.ndarray], None]] = {
        "context": lambda a: a.__setitem__(begin + 1, a[begin + 2]),
        "context_numbers": lambda a: a.__setitem__((begin + 1, 0), a[begin + 1, 0] + 1),
        "timestamp": lambda a: a.__setitem__(begin + 1, a[begin]),
        "user_version": lambda a: a.__setitem__(begin + 3, a[begin + 4]),
    }
    for name, change in changes.items():
        array: Any = np.array(getattr(changing.sequences, name))
        change(array)
        other = Dataset(path=changing.path, manifest=changing.manifest, spec=changing.spec)
        other.__dict__["sequences"] = replace(changing.sequences, **{name: array})
        after = ModelScorer(model, other).queries(np.array([user]), np.array([3]))
        assert (after - before).norm() > 1e-3, name
