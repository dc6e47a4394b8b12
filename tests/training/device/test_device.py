"""What depends on the kind of device."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from rf_bench.train.plain_embeddings import PlainEmbeddings
from rf_platform.dataset import Dataset
from rf_platform.errors import ConfigError
from rf_training import device, loss
from rf_training.config import Recipe, TrainConfig
from rf_training.device import device_of, numbers_at_once, prefer_determinism
from rf_training.loading.batches import BatchLoader
from rf_training.model.blocks.transformer import attention
from rf_training.model.config import ModelConfig
from rf_training.model.retrievalformer import RetrievalFormer

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
CPU, META = torch.device("cpu"), torch.device("meta")


@pytest.mark.parametrize(
    ("trained", "there", "asked", "expected"),
    [
        ("cuda", True, "auto", "cuda"),
        ("cuda", False, "auto", "cpu"),
        ("cpu", True, "auto", "cpu"),
        (None, True, "auto", "cpu"),
        ("cuda", True, "cpu", "cpu"),
        ("cpu", True, "cuda", "cuda"),
    ],
)
def test_a_run_is_asked_where_it_was_trained(
    monkeypatch: pytest.MonkeyPatch, trained: str | None, there: bool, asked: Any, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    config = {} if trained is None else {"train": {"device": trained}}
    assert device_of(config, asked).type == expected


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"--device=cuda: .*use --device=cpu"):
        device_of({}, "cuda")


def test_chunks_grow_with_the_memory_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "memory_of", lambda where: 80 << 30)
    assert numbers_at_once(CPU, 1 << 22) == 1 << 22  # what every run on a CPU was rounded by
    assert numbers_at_once(META, 1 << 22) == (80 << 30) // 64 // 4
    monkeypatch.setattr(device, "memory_of", lambda where: 0)
    assert numbers_at_once(META, 1 << 22) == 1 << 22


def test_the_softmax_takes_as_many_queries_at_once_as_the_device_holds(
    monkeypatch: pytest.MonkeyPatch, accelerator: Any
) -> None:
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", 10)
    sizes: list[int] = []
    x_QD, y_CD, target_Q = torch.randn(8, 4), torch.randn(5, 4), torch.arange(8) % 5
    gather: Callable[..., Tensor] = Tensor.gather

    def noted(self: Tensor, *args: Any) -> Tensor:
        sizes.append(len(self))
        return gather(self, *args)

    monkeypatch.setattr(Tensor, "gather", noted)
    loss.full_softmax(x_QD, y_CD, None, target_Q, 0.1)
    assert sizes == [2, 2, 2, 2]
    monkeypatch.setattr(device, "memory_of", lambda where: 20 * 4 * 64)
    sizes.clear()
    far = [each.to(accelerator.device) for each in (x_QD, y_CD, target_Q)]
    loss.full_softmax(far[0], far[1], None, far[2], 0.1)
    assert sizes == [4, 4]


@pytest.mark.parametrize(("where", "expected"), [(CPU, torch.float32), (META, torch.bfloat16)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_in_float32_on_cpus_only(where: torch.device, expected: torch.dtype, masked: bool) -> None:
    q, k, v = torch.zeros(3, 2, 2, 5, 4, dtype=torch.bfloat16, device=where)
    mask = torch.ones(1, 1, 5, 5, dtype=torch.bool, device=where) if masked else None
    assert attention(q, k, v, mask).dtype == expected


def test_plain_tables_draw_where_the_values_are(dataset: Dataset, accelerator: Any) -> None:
    config = ModelConfig(dim=16, max_history=6, feature_noise=0.4)
    batch = next(iter(BatchLoader(dataset, Recipe(name="t", model=config, train=TrainConfig(batch_size=8))).epoch(0)))
    found = []
    for where in (CPU, accelerator.device):
        torch.manual_seed(0)
        plain = PlainEmbeddings(RetrievalFormer(config, dataset.encoder).embeddings).train().to(where)
        accelerator.waits.clear()
        found.append(plain(batch.to(where).sides))
        assert accelerator.waits == []
    for key, embedded in found[0].items():
        assert torch.equal(found[1][key].pooled_RD.detach().cpu(), embedded.pooled_RD.detach())


def test_the_size_of_vectors_is_told_without_the_cpu(accelerator: Any) -> None:
    """Statistics and penalties draw and count on the device."""
    x_QD, y_CD = (torch.nn.functional.normalize(torch.randn(n, 8), dim=1) for n in (1500, 1200))
    near = loss.uniformity(x_QD, y_CD)
    far = loss.uniformity(x_QD.to(accelerator.device), y_CD.to(accelerator.device))
    assert accelerator.waits == []
    torch.testing.assert_close(far.cpu(), near)
    torch.manual_seed(0)
    near = loss.uniformity_of(y_CD)
    torch.manual_seed(0)
    torch.testing.assert_close(loss.uniformity_of(y_CD.to(accelerator.device)).cpu(), near)


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(CUBLAS, "")  # so that it is as it was at the end
    monkeypatch.delenv(CUBLAS)
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]


@pytest.mark.usefixtures("deterministic")
def test_cuda_gets_the_deterministic_kernels_there_are() -> None:
    prefer_determinism(CPU)
    assert (torch.are_deterministic_algorithms_enabled(), os.environ.get(CUBLAS)) == (False, None)
    prefer_determinism(torch.device("cuda", 1))
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ[CUBLAS] == ":4096:8"
