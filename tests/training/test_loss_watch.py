"""Losses that stay on their device for a while, and what is said of them meanwhile."""

import pytest
import torch

from rf_platform.errors import RunError
from rf_training.loss import READ_EVERY, LossWatch


def fault(loss: float) -> str:
    return f"the loss is {loss}"


def test_a_cpu_tells_every_loss_at_once() -> None:
    watch = LossWatch(torch.device("cpu"))
    assert watch.note == ""
    assert watch.add(torch.tensor(2.5), fault) == [2.5]
    assert watch.note == "loss 2.500"
    with pytest.raises(RunError, match="the loss is inf"):
        watch.add(torch.tensor(torch.inf), fault)


def test_a_device_tells_nothing_rather_than_a_loss_that_was_not_read() -> None:
    watch = LossWatch(torch.device("cuda"))
    for step in range(1, READ_EVERY):
        assert watch.add(torch.tensor(float(step)), fault) == []
        assert watch.note == ""
    assert watch.add(torch.tensor(20.0), fault) == [*map(float, range(1, READ_EVERY)), 20.0]
    assert watch.note == "loss 20.000"
    watch.add(torch.tensor(7.0), fault)
    assert watch.read() == [7.0]
    assert watch.read() == []
    assert watch.note == "loss 7.000"
