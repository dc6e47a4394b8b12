"""The one copy of a batch: everything arrives as it was."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from rf_training.device import moved


@dataclass(frozen=True)
class Parts:
    by_name: dict[str, Any]
    pair: tuple[Tensor, Tensor]
    count: int
    word: str


PARTS = Parts(
    by_name={
        "bool": torch.tensor([True, False, True]),
        "none": torch.zeros(0, 3),
        "inner": {"half": torch.randn(3, 5).bfloat16(), "scalar": torch.tensor(2.5)},
        "turned": torch.arange(12).view(3, 4).T,
    },
    pair=(torch.arange(7), torch.arange(5, dtype=torch.int32)),
    count=3,
    word="as it was",
)


def flat(parts: Parts) -> list[Tensor]:
    inner = parts.by_name["inner"]
    return [*(parts.by_name[name] for name in ("bool", "none", "turned")), inner["half"], inner["scalar"], *parts.pair]


def test_on_the_cpu_nothing_is_touched() -> None:
    assert moved(PARTS, torch.device("cpu")) is PARTS


@pytest.mark.parametrize("value", [{}, Parts({}, (torch.zeros(0), torch.zeros(0)), 0, "")])
def test_nothing_to_move(value: Any) -> None:
    assert type(moved(value, torch.device("meta"))) is type(value)


def test_everything_arrives_in_one_copy_each_in_its_place(accelerator: Any) -> None:
    there = moved(PARTS, accelerator.device)
    assert accelerator.sent == 1
    assert (there.count, there.word) == (3, "as it was")
    for far, near in zip(flat(there), flat(PARTS), strict=True):
        assert far.device == accelerator.device
        assert (far.dtype, far.shape) == (near.dtype, near.shape)
        assert torch.equal(far.cpu(), near)
        assert far.storage_offset() * far.element_size() % 16 == 0
