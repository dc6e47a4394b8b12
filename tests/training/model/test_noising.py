"""Feature noising (R11)."""

import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from rf_training.model.embeddings import FeatureNoising


def features(values: list[int], lengths: list[int]) -> KeyedJaggedTensor:
    return KeyedJaggedTensor(
        keys=["a", "b"], values=torch.tensor(values), lengths=torch.tensor(lengths, dtype=torch.int32)
    )


def test_rate_holds_per_feature_single_or_bagged() -> None:
    torch.manual_seed(0)
    rows = 20_000
    noised = FeatureNoising({"a": 0.05, "b": 0.5}).train()(features([7] * rows * 3, [1] * rows + [2] * rows))
    a, b = noised["a"].values(), noised["b"].values()
    assert abs((a == 1).float().mean().item() - 0.05) < 0.01
    assert abs((b == 1).float().mean().item() - 0.5) < 0.01
    assert set(a.unique().tolist()) == {1, 7}


def test_lengths_and_offsets_never_change() -> None:
    before = features([5, 6, 7, 8], [1, 0, 2, 1])
    after = FeatureNoising({"a": 0.9, "b": 0.9}).train()(before)
    assert torch.equal(after.lengths(), before.lengths())
    assert torch.equal(after.offsets(), before.offsets())


def test_padding_is_never_noised() -> None:
    after = FeatureNoising({"a": 0.999, "b": 0.999}).train()(features([0] * 200, [50, 50, 50, 50]))
    assert after.values().eq(0).all()


def test_off_in_evaluation() -> None:
    before = features([5, 6, 7, 8], [1, 0, 2, 1])
    assert FeatureNoising({"a": 0.9, "b": 0.9}).eval()(before) is before
