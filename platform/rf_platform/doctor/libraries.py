"""Checks that load native libraries, in a process of their own: a broken one may crash it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from rf_platform.doctor.check import Finding, fail, ok
from rf_platform.doctor.packages import installed_versions
from rf_platform.settings import Settings

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
