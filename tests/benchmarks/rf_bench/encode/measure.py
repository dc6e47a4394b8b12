"""Cost of encoding requests, the way of training beside the way of the server.

Shapes: B requests, V interactions of all requests, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import thread_time

import numpy as np
import pyarrow as pa
import torch

from rf_platform.features.dtype import Kind
from rf_platform.features.encode import FeatureEncoder, NumericStats
from rf_platform.features.spec import DomainSpec, EntitySpec, FeatureSpec, FieldSpec, Side
from rf_platform.features.vocabulary import Vocabulary
from rf_serving.encoding import OnlineEncoder
from rf_serving.user_features.features import KnownFeatures
from rf_training.model.config import ModelConfig
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.served import ServedTower

TOGETHER = (1, 8, 32)
ITEMS = 10_000
_FIELDS: dict[str, tuple[Side, Kind, str, int]] = {
    "gender": ("user", "categorical", "String", 3),
    "age": ("user", "categorical", "Int64", 8),
    "occupation": ("user", "categorical", "String", 21),
    "area": ("user", "categorical", "String", 100),
    "kinds": ("context", "categorical", "Array(String)", 4),
    "hours": ("context", "categorical", "Array(Int64)", 24),
    "weekdays": ("context", "categorical", "Array(Int64)", 7),
    "ratings": ("context", "numeric", "Array(Float32)", 0),
    "times": ("context", "timestamp", "Array(UnixTimestamp)", 0),
}
"""Side, kind, dtype and number of values of each feature."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """CPU milliseconds of one request."""

    context: int
    """Context features of each interaction."""
    together: int
    """Requests that the server's way encodes at once; training's way has one."""
    before_ms: float
    """Training's way."""
    inputs_ms: float
    """From values to model inputs."""
    towers_ms: float
    """From model inputs to query vectors."""

    @property
    def total_ms(self) -> float:
        """The server's way."""
        return self.inputs_ms + self.towers_ms

    @property
    def ratio(self) -> float:
        """Ratio of the cost of the way of training to that of the server's."""
        return self.before_ms / self.total_ms


def measure(history: int, dim: int, fusion: str, repeats: int) -> list[Measured]:
    """Measure both ways, with and without context, for growing batches."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [
            each for with_context in (False, True) for each in _measure(with_context, history, dim, fusion, repeats)
        ]
    finally:
        torch.set_num_threads(threads)


def _measure(with_context: bool, history: int, dim: int, fusion: str, repeats: int) -> list[Measured]:
    names = [name for name, (side, *_) in _FIELDS.items() if with_context or side == "user"]
    encoder = _encoder(names)
    torch.manual_seed(0)
    model = RetrievalFormer(ModelConfig(dim=dim, max_history=history, fusion=fusion), encoder).eval()
    with torch.no_grad():
        # As training leaves it: open.
        model.interaction_gate.fill_(0.5)
    tokens_ND = torch.randn(ITEMS, dim)
    items_ND = tokens_ND.numpy()
    rng = np.random.default_rng(0)
    requests = [_request(rng, names, history) for _ in range(max(TOGETHER))]
    online, tower = OnlineEncoder(encoder, history), ServedTower(model, encoder.spec)
    results = []
    for together in TOGETHER:
        batch = requests[:together]
        rows_V = np.concatenate([request.rows for request in batch])
        lengths, users, context = online.lengths(batch), online.profiles(batch), online.interactions(batch)

        def inputs(batch: list[KnownFeatures] = batch) -> None:
            online.lengths(batch), online.profiles(batch), online.interactions(batch)

        def towers(rows_V=rows_V, lengths=lengths, users=users, context=context) -> None:  # type: ignore[no-untyped-def]
            tower(items_ND[rows_V], lengths, users, context)

        before, first, second = _medians(
            [lambda: _by_training(encoder, model, tokens_ND, requests[0]), inputs, towers], repeats
        )
        results.append(
            Measured(
                context=len(encoder.spec.inputs("context")),
                together=together,
                before_ms=before,
                inputs_ms=first / together,
                towers_ms=second / together,
            )
        )
    return results


def _encoder(names: Sequence[str]) -> FeatureEncoder:
    fields = [
        FieldSpec(
            view="v",
            field=name,
            side=side,
            kind=kind,
            role="history" if side == "context" else "feature",
            dtype=dtype,
            domain=name if values else None,
            of=name if side == "context" else None,
        )
        for name, (side, kind, dtype, values) in _FIELDS.items()
        if name in names
    ]
    fields.append(FieldSpec(view="v", field="x", side="item", kind="numeric", role="feature", dtype="Float32"))
    domains = {
        f.domain: DomainSpec(name=f.domain, value_type="string" if f.type.element == "String" else "int64")
        for f in fields
        if f.domain
    }
    domains["item_id"] = DomainSpec(name="item_id", value_type="int64")
    spec = FeatureSpec(
        service="bench",
        user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
        item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
        fields=tuple(sorted(fields, key=lambda f: f.name)),
        domains=tuple(domains[name] for name in sorted(domains)),
        history_length=50,
    )
    known = {name: _values(name) for name in domains}
    return FeatureEncoder(
        spec=spec,
        vocabularies={
            name: Vocabulary(domains[name], pa.array(known[name]), np.ones(len(known[name]), np.int64))
            for name in domains
        },
        numeric={f.name: NumericStats(3.0, 1.0) for f in fields if f.kind in ("numeric", "timestamp")},
        widths={},
    )


def _values(name: str) -> list[str] | list[int]:
    _, _, dtype, count = _FIELDS.get(name, ("item", "categorical", "Int64", 2))
    return [f"{name} {n}" for n in range(count)] if "String" in dtype else list(range(count))


def _request(rng: np.random.Generator, names: Sequence[str], history: int) -> KnownFeatures:
    profile = {
        f"v__{name}": _values(name)[rng.integers(_FIELDS[name][3])] for name in names if _FIELDS[name][0] == "user"
    }
    context: dict[str, list[object]] = {}
    for name in names:
        side, kind, _, count = _FIELDS[name]
        if side == "context" and kind == "categorical":
            context[f"v__{name}"] = [_values(name)[n] for n in rng.integers(0, count, history)]
        elif side == "context" and kind == "numeric":
            context[f"v__{name}"] = rng.integers(1, 6, history).astype(float).tolist()
    times = np.cumsum(rng.integers(0, 10**9, history))
    return KnownFeatures(profile, rng.integers(0, ITEMS, history), times, context)


@torch.inference_mode()
def _by_training(
    encoder: FeatureEncoder, model: RetrievalFormer, tokens_ND: torch.Tensor, request: KnownFeatures
) -> None:
    """Encode one request as datasets are encoded, and as the model is evaluated in training."""
    spec, count = encoder.spec, len(request.rows)
    profile = pa.table({"": pa.nulls(1), **{name: pa.array([value]) for name, value in request.profile.items()}})
    columns = pa.table({"": pa.nulls(count), **{name: pa.array(values) for name, values in request.context.items()}})
    first = np.arange(count) == 0
    users = FeatureTensors.from_encoded(encoder.encode(profile, spec.inputs("user")))
    assert request.timestamps is not None
    context = FeatureTensors.from_encoded(encoder.encode_context(columns, request.timestamps, first))
    embedded = model.embed({"user": users, "context": context})
    z_VD = model.encode_interactions(tokens_ND[request.rows], context, embedded)
    profile_BD = model.encode_profiles(users, embedded)
    model.query_vectors(model.encode_users(z_VD, torch.tensor([count]), profile_BD[:, None])[:, 0])


def _medians(works: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Return the median CPU milliseconds of each, in turns."""
    times = np.empty((repeats, len(works)))
    for repeat in range(repeats):
        for place, work in enumerate(works):
            begin = thread_time()
            work()
            times[repeat, place] = thread_time() - begin
    return [float(ms) for ms in np.median(times, axis=0) * 1000]
