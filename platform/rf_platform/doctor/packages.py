"""Checks of what is installed: from package metadata alone, and by loading native libraries in a process of their own.

A broken library must not stop its own diagnosis. fbgemm is built for one minor version of torch, and torchrec for one of
fbgemm; pip does not know. ``fbgemm-gpu`` and ``fbgemm-gpu-cpu``, and ``faiss-gpu`` and ``faiss-cpu``, are the same Python
module: installed together, one overwrites the other.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

from rf_platform.doctor.check import Finding, fail, ok, warn
from rf_platform.settings import Settings

PYTHON = ((3, 11), (3, 13))
"""The oldest supported Python and the first one that is not."""
TORCH_OF_FBGEMM = {(1, 6): (2, 11), (1, 7): (2, 12), (1, 8): (2, 13), (1, 9): (2, 14)}
"""fbgemm's major and minor version -> those of the torch it is built for."""
_REINSTALL = "install the locked set again: `pip install --no-deps -r infra/requirements-{kind}.txt`"


@cache
def installed_versions() -> Mapping[str, str]:
    """Return the version of every installed package, by normalised name; they are looked up once."""
    found = (distribution.metadata for distribution in distributions())
    return {_normal(metadata["Name"]): metadata["Version"] for metadata in found if metadata["Name"]}


def check_python(settings: Settings) -> Finding:
    """Is this Python supported?"""
    return python_version(sys.version_info[:2])


def python_version(version: tuple[int, int]) -> Finding:
    """Judge a Python version."""
    oldest, too_new = PYTHON
    text = ".".join(map(str, version))
    if oldest <= version < too_new:
        return ok(text)
    return fail(
        text, f"use Python {'.'.join(map(str, oldest))} up to, but not including, {'.'.join(map(str, too_new))}"
    )


def check_torch_pairing(settings: Settings) -> Finding:
    """Do torch, torchrec and fbgemm belong together?"""
    return torch_pairing(installed_versions())


def torch_pairing(versions: Mapping[str, str]) -> Finding:
    """Judge the versions of torch, torchrec and fbgemm, by package name."""
    fbgemm = {name: versions[name] for name in ("fbgemm-gpu-cpu", "fbgemm-gpu") if name in versions}
    remedy = _REINSTALL.format(kind=_kind(versions))
    missing = [name for name in ("torch", "torchrec") if name not in versions]
    missing += [] if fbgemm else ["fbgemm-gpu-cpu (or fbgemm-gpu)"]
    if missing:
        return fail(f"not installed: {', '.join(missing)}", remedy)
    torch, torchrec = versions["torch"], versions["torchrec"]
    wrong: list[str] = []
    for name, version in fbgemm.items():
        if _minor(version) != _minor(torchrec):
            wrong.append(f"torchrec {torchrec} needs fbgemm {_dots(_minor(torchrec))}, and {name} is {version}")
        wanted = TORCH_OF_FBGEMM.get(_minor(version))
        if wanted is not None and _minor(torch) != wanted:
            wrong.append(f"{name} {version} needs torch {_dots(wanted)}, and torch is {torch}")
    if "fbgemm-gpu" in fbgemm and torch.endswith("+cpu"):
        wrong.append(f"fbgemm-gpu needs CUDA, and torch {torch} is built without")
    if wrong:
        return fail("; ".join(wrong), remedy)
    pair = f"torch {torch}, torchrec {torchrec}, {', '.join(f'{n} {v}' for n, v in fbgemm.items())}"
    if unknown := [v for v in fbgemm.values() if _minor(v) not in TORCH_OF_FBGEMM]:
        return warn(f"{pair}: nobody has tried fbgemm {unknown[0]} with this code", remedy)
    return ok(pair)


def check_fbgemm_twins(settings: Settings) -> Finding:
    """Is only one build of fbgemm installed?"""
    return one_of(installed_versions(), cpu="fbgemm-gpu-cpu", gpu="fbgemm-gpu", module="fbgemm_gpu")


def check_faiss_twins(settings: Settings) -> Finding:
    """Is exactly one build of faiss installed?"""
    return one_of(installed_versions(), cpu="faiss-cpu", gpu="faiss-gpu", module="faiss")


def one_of(versions: Mapping[str, str], *, cpu: str, gpu: str, module: str) -> Finding:
    """Judge two packages that provide the same module: exactly one may be installed."""
    found = [name for name in (cpu, gpu) if name in versions]
    if len(found) == 1:
        return ok(f"{found[0]} {versions[found[0]]}")
    if found:
        return fail(
            f"{cpu} and {gpu} are both installed and overwrite each other's module '{module}'",
            f"`pip uninstall -y {cpu} {gpu}`, then `pip install --no-deps {cpu}=={versions[cpu]}` (on a GPU machine: {gpu})",
        )
    return fail(f"neither {cpu} nor {gpu} is installed", f"`pip install {cpu}` (on a GPU machine: {gpu})")


def check_lock(settings: Settings) -> Finding:
    """Are the installed versions the locked, tested ones?"""
    versions = installed_versions()
    name = f"requirements-{_kind(versions)}.txt"
    for folder in (Path(__file__).parents[3] / "infra", Path("infra")):
        if (folder / name).is_file():
            return lock_mismatches((folder / name).read_text(), versions, name)
    return ok(f"no {name} here to compare with")


def lock_mismatches(lock: str, versions: Mapping[str, str], name: str) -> Finding:
    """Compare installed versions with a lock file's ``package==version`` lines; build tags such as +cpu do not count."""
    pins = dict(re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?\s*==\s*([^\s;#\\]+)", lock, flags=re.MULTILINE))
    wrong = [
        f"{package} is {found or 'not installed'}, locked {pin}"
        for package, pin in sorted(pins.items())
        if (found := versions.get(_normal(package), "")).partition("+")[0] != pin.partition("+")[0]
    ]
    if wrong:
        return warn("; ".join(wrong), f"`pip install --no-deps -r infra/{name}`")
    return ok(f"all {len(pins)} packages of {name} as locked")


def _kind(versions: Mapping[str, str]) -> str:
    return "gpu" if "faiss-gpu" in versions or "fbgemm-gpu" in versions else "cpu"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _minor(version: str) -> tuple[int, int]:
    numbers = [int(n) for n in re.findall(r"\d+", version)[:2]] + [0, 0]
    return numbers[0], numbers[1]


def _dots(minor: tuple[int, int]) -> str:
    return f"{minor[0]}.{minor[1]}"


_IMPORT_SECONDS = 180
_SMI_SECONDS = 20


def check_torch_import(settings: Settings) -> Finding:
    """Do torch, fbgemm and torchrec load?"""
    return import_modules("torch", "fbgemm_gpu", "torchrec")


def check_faiss_import(settings: Settings) -> Finding:
    """Check that faiss loads."""
    return import_modules("faiss")


def import_modules(*modules: str, search: Path | None = None, timeout: float = _IMPORT_SECONDS) -> Finding:
    """Import modules in a fresh interpreter.

    Args:
        modules: names, imported in this order.
        search: a directory to look for them first.
        timeout: seconds until it is given up.
    """
    names = ", ".join(modules)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} | ({"PYTHONPATH": str(search)} if search else {})
    program = "; ".join(f"import {module}" for module in modules)
    remedy = "install the locked set again, one build of each package only (the checks above say which)"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return fail(
            f"`import {names}` did not finish within {timeout:g} s", "look at the load of this machine, and try again"
        )
    if done.returncode == 0:
        return ok(f"{names} import")
    if done.returncode < 0:
        return fail(f"`import {names}` crashed with {signal.Signals(-done.returncode).name}", remedy)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return fail(f"`import {names}` fails: {lines[-1].strip() if lines else f'exit code {done.returncode}'}", remedy)


def check_gpu(settings: Settings) -> Finding:
    """Is there a GPU, and are the packages those for it?"""
    listing = ""
    if shutil.which("nvidia-smi"):
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_SMI_SECONDS)
        listing = done.stdout if done.returncode == 0 else ""
    return gpus(listing, installed_versions())


def gpus(listing: str, versions: Mapping[str, str]) -> Finding:
    """Judge what ``nvidia-smi -L`` lists; none is as good as some."""
    found = [line.partition(" (UUID")[0].strip() for line in listing.splitlines() if line.startswith("GPU ")]
    if not found:
        return ok("none seen; the CPU is used")
    if "fbgemm-gpu" in versions:
        return ok("; ".join(found))
    return ok(f"{'; '.join(found)}; not used, because the CPU packages are installed", "to use it: `make install-gpu`")
