"""A device that there is on every machine: out of reach of the CPU, and computing what the CPU does.

What mixes it with the CPU fails as on a GPU, and so does ``numpy()``. What a GPU would have to be waited for is counted, and
every copy to it. It has the name of "meta", which the code under test treats in a way of its own for sharded tables only.
"""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from rf_training.distributed.process_group import World

DEVICE = torch.device("meta")
WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::unique_dim", "aten::_unique2"}
"""Operations whose result, or its size, a program cannot go on without."""
COPIES = {"aten::_to_copy", "aten::copy_"}


class Elsewhere(Tensor):
    """A tensor on the device."""

    held: Tensor
    """Its numbers."""

    @staticmethod
    def __new__(cls, held: Tensor) -> "Elsewhere":
        made: Elsewhere = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.__reduce_ex__(protocol)  # type: ignore[no-untyped-call]  # as a tensor of a GPU is read where there is none

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise AssertionError(f"{func} outside of the test")


class Accelerator(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What runs on the device, and what it was waited for and sent."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device, self.world = DEVICE, FarWorld()
        self.waits: list[str] = []
        """Operations that gave the CPU something of the device."""
        self.sent = 0
        """Copies to the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not any(kind is Elsewhere for kind in types) and not (kwargs and "device" in kwargs):
            return func(*args, **(kwargs or {}))
        if not torch.is_inference_mode_enabled():
            return self._run(func, args, kwargs)
        with torch.inference_mode(False), torch.no_grad():  # tensors of that mode cannot be wrapped
            return self._run(func, args, kwargs)

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        kwargs, name = kwargs or {}, func._schema.name
        given = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Tensor)]
        there = [isinstance(each, Elsewhere) for each in given]
        target = kwargs.get("device")
        goes = any(there) if target is None else torch.device(target) == DEVICE
        if any(there):
            if name not in COPIES and any(each.ndim for each, far in zip(given, there, strict=True) if not far):
                raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found some on the CPU")
            by_mask = name == "aten::index" and any(each.dtype == torch.bool for each in given[1:])
            if name in WAITS or by_mask or (name == "aten::_to_copy" and not goes) or _comes_back(name, there):
                self.waits.append(name)
        if (name == "aten::_to_copy" and goes and not all(there)) or (name == "aten::copy_" and there == [True, False]):
            self.sent += 1
        if target is not None:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        args, kwargs = tree_map(lambda each: each.held if isinstance(each, Elsewhere) else each, (args, kwargs))
        found = func(*args, **kwargs)
        if func._schema.is_mutable and name.endswith("_"):
            return found if found is None else given[0]
        return tree_map(lambda each: Elsewhere(each) if goes and isinstance(each, Tensor) else each, found)


def _comes_back(name: str, there: list[bool]) -> bool:
    return name == "aten::copy_" and there == [False, True]


class FarWorld(World):
    """A world of one process, whose GPU is the device."""

    def device(self, kind: str) -> torch.device:
        return DEVICE if kind == "cuda" else torch.device("cpu")


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    torch.set_num_threads(1)
    optimizers = sys.modules["torch.optim.optimizer"]
    known = optimizers._get_fused_kernels_supported_devices()
    monkeypatch.setattr(optimizers, "_get_fused_kernels_supported_devices", lambda: [*known, "meta"])
    with Accelerator() as mode:
        yield mode
