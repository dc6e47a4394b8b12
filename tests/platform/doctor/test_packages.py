import tomllib
from pathlib import Path

import pytest

from rf_platform.doctor.check import Status
from rf_platform.doctor.packages import (
    PYTHON,
    TORCH_OF_FBGEMM,
    installed_versions,
    lock_mismatches,
    one_of,
    python_version,
    torch_pairing,
)

GOOD = {"torch": "2.13.0+cpu", "torchrec": "1.8.0", "fbgemm-gpu-cpu": "1.8.0"}
PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(
    ("version", "status"),
    [((3, 10), Status.FAIL), ((3, 11), Status.OK), ((3, 12), Status.OK), ((3, 13), Status.FAIL)],
)
def test_python_versions(version: tuple[int, int], status: Status) -> None:
    assert python_version(version).status is status


def test_the_supported_pythons_are_those_of_the_package() -> None:
    oldest, too_new = (".".join(map(str, version)) for version in PYTHON)
    assert PROJECT["requires-python"] == f">={oldest},<{too_new}"


def test_the_declared_set_is_a_known_pair() -> None:
    """A change of the pins in pyproject.toml must come with its line in the table."""
    pins = dict(d.split("==") for d in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["cpu"] if "==" in d)
    torchrec = tuple(map(int, pins["torchrec"].split(".")[:2]))
    assert pins["torch"] == f"{'.'.join(map(str, TORCH_OF_FBGEMM[(torchrec[0], torchrec[1])]))}.*"
    assert pins["fbgemm-gpu-cpu"] == pins["torchrec"]


@pytest.mark.parametrize(
    ("torch", "rec"), [("2.11.1", "1.6.0"), ("2.12.0", "1.7.0"), ("2.13.0", "1.8.2"), ("2.14.0", "1.9.0")]
)
def test_pairs_that_belong_together(torch: str, rec: str) -> None:
    found = torch_pairing({"torch": torch, "torchrec": rec, "fbgemm-gpu-cpu": rec})
    assert (found.status, found.remedy) == (Status.OK, "")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"torch": "2.12.0"}, ["fbgemm-gpu-cpu 1.8.0 needs torch 2.13, and torch is 2.12.0"]),
        ({"torch": "2.15.0"}, ["needs torch 2.13, and torch is 2.15.0"]),
        ({"torchrec": "1.7.0"}, ["torchrec 1.7.0 needs fbgemm 1.7, and fbgemm-gpu-cpu is 1.8.0"]),
        ({"fbgemm-gpu-cpu": "1.9.0"}, ["needs fbgemm 1.8, and fbgemm-gpu-cpu is 1.9.0", "needs torch 2.14"]),
        ({"fbgemm-gpu": "1.8.0"}, ["fbgemm-gpu needs CUDA, and torch 2.13.0+cpu is built without"]),
        ({"torch": None}, ["not installed: torch"]),
        ({"torchrec": None, "fbgemm-gpu-cpu": None}, ["not installed: torchrec, fbgemm-gpu-cpu (or fbgemm-gpu)"]),
    ],
)
def test_pairs_that_do_not(changes: dict[str, str | None], says: list[str]) -> None:
    found = torch_pairing({name: v for name, v in {**GOOD, **changes}.items() if v is not None})
    assert found.status is Status.FAIL
    assert all(text in found.detail for text in says), found.detail
    kind = "gpu" if "fbgemm-gpu" in changes else "cpu"
    assert f"infra/requirements-{kind}.txt" in found.remedy


def test_an_untried_fbgemm_is_a_warning() -> None:
    found = torch_pairing({"torch": "2.16.0", "torchrec": "1.11.0", "fbgemm-gpu-cpu": "1.11.0"})
    assert found.status is Status.WARN
    assert "nobody has tried fbgemm 1.11.0" in found.detail


@pytest.mark.parametrize(
    ("versions", "status", "says"),
    [
        ({"faiss-cpu": "1.15.1"}, Status.OK, "faiss-cpu 1.15.1"),
        ({"faiss-gpu": "1.15.1"}, Status.OK, "faiss-gpu 1.15.1"),
        ({}, Status.FAIL, "neither faiss-cpu nor faiss-gpu"),
        ({"faiss-cpu": "1.15.1", "faiss-gpu": "1.15.1"}, Status.FAIL, "overwrite each other's module 'faiss'"),
    ],
)
def test_exactly_one_build(versions: dict[str, str], status: Status, says: str) -> None:
    found = one_of(versions, cpu="faiss-cpu", gpu="faiss-gpu", module="faiss")
    assert found.status is status
    assert says in found.detail
    assert bool(found.remedy) == (status is Status.FAIL)


LOCK = """
# comment: ignored==1.0
--index-url somewhere
feast[duckdb,redis]==0.67.0
torch==2.13.0 \\
    --hash=sha256:abc
Typing_Extensions==4.1; python_version < "3.12"
PyYAML == 6.0  # why
"""


def test_a_lock_that_is_kept() -> None:
    versions = {"feast": "0.67.0", "torch": "2.13.0+cpu", "typing-extensions": "4.1", "pyyaml": "6.0", "other": "1"}
    found = lock_mismatches(LOCK, versions, "requirements-cpu.txt")
    assert (found.status, found.detail) == (Status.OK, "all 4 packages of requirements-cpu.txt as locked")


def test_a_lock_that_is_not_kept_names_each_package_with_both_versions() -> None:
    found = lock_mismatches(LOCK, {"feast": "0.66.0", "torch": "2.13.0", "pyyaml": "6.0"}, "requirements-cpu.txt")
    assert found.status is Status.WARN
    assert found.detail == "Typing_Extensions is not installed, locked 4.1; feast is 0.66.0, locked 0.67.0"


def test_installed_versions_are_found_by_normalised_name() -> None:
    versions = installed_versions()
    assert versions["pytest"] == pytest.__version__
    assert "typing-extensions" in versions
