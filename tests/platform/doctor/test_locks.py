"""The locked sets: what they share is the same, and what goes together is together."""

import re
from pathlib import Path

import pytest

from rf_platform.doctor.check import Status
from rf_platform.doctor.packages import _normal, one_of, torch_pairing

INFRA = Path(__file__).parents[3] / "infra"
TWINS = {"faiss-cpu": "faiss-gpu", "fbgemm-gpu-cpu": "fbgemm-gpu"}
# What the wheels declare (`pip install --dry-run --report`), without the versions.
LIBRARIES = {
    "torch": [
        *("cuda-bindings", "cuda-toolkit", "nvidia-cudnn-cu13", "nvidia-cusparselt-cu13", "nvidia-nccl-cu13"),
        *("nvidia-nvshmem-cu13", "triton", "setuptools"),
    ],
    "cuda-toolkit": [
        *(
            "nvidia-cublas",
            "nvidia-cuda-runtime",
            "nvidia-cufft",
            "nvidia-cufile",
            "nvidia-cuda-cupti",
            "nvidia-curand",
        ),
        *("nvidia-cusolver", "nvidia-cusparse", "nvidia-nvjitlink", "nvidia-cuda-nvrtc", "nvidia-nvtx"),
    ],
    "faiss-gpu": ["nvidia-cuda-runtime-cu12", "nvidia-cublas-cu12", "nvidia-curand-cu12"],
    "nvidia-cublas-cu12": ["nvidia-cuda-nvrtc-cu12"],
    "cuda-bindings": ["cuda-pathfinder"],
}


def pins(kind: str) -> dict[str, str]:
    """Return the versions of ``infra/requirements-KIND.txt`` by normalised name."""
    lines = (INFRA / f"requirements-{kind}.txt").read_text().splitlines()
    return {_normal(name): version for name, _, version in (line.partition("==") for line in lines if line[0] != "#")}


CPU, GPU = pins("cpu"), pins("gpu")


def test_the_set_for_gpus_is_that_for_cpus_with_other_builds() -> None:
    expected = {TWINS.get(name, name): version for name, version in CPU.items()}
    assert {name: GPU.get(name) for name in expected} == expected
    added = GPU.keys() - expected.keys()
    assert added == {name for names in LIBRARIES.values() for name in names}


@pytest.mark.parametrize(("package", "needs"), LIBRARIES.items())
def test_installed_without_dependencies_the_set_for_gpus_lacks_no_cuda_library(package: str, needs: list[str]) -> None:
    assert package in GPU
    assert [name for name in needs if name not in GPU] == []


def test_every_set_is_one_build_of_paired_packages() -> None:
    for kind in (CPU, GPU):
        assert torch_pairing(kind).status is Status.OK
        for cpu, gpu in TWINS.items():
            assert one_of(kind, cpu=cpu, gpu=gpu, module="").status is Status.OK
    assert not any(re.match(r"nvidia-|cuda-|triton", name) for name in CPU)


@pytest.mark.parametrize("kind", ["dev", "bench"])
def test_what_is_installed_beside_a_set_changes_nothing_of_it(kind: str) -> None:
    more = pins(kind)
    assert {name: more[name] for name in more.keys() & (CPU.keys() | GPU.keys())} == {}
