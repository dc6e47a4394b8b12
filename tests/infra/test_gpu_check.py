"""The checks of the GPU path, as they run where there is no device, and what they decide with one that is told."""

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
no_device = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture(scope="module")
def check() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "infra" / "gpu_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module
    spec.loader.exec_module(module)
    return module


@no_device
def test_every_line_says_that_there_is_no_device(check: Any) -> None:
    arguments = argparse.Namespace(items=1000, user="1")
    for name in check.LINES:
        assert check.told(name, arguments) == f"SKIP {name}: no CUDA device"


@no_device
def test_the_script_ends_without_a_verdict_and_without_a_crash(tmp_path: Path) -> None:
    """Through the shell, each line a process of its own, and a wheel that came in two parts."""
    wheel = _wheel(tmp_path)
    for part, half in enumerate((wheel[:100], wheel[100:])):
        (tmp_path / f"carried_along-1.0-py3-none-any.whl.0{part}").write_bytes(half)
    ended = subprocess.run(
        ["bash", str(ROOT / "infra" / "gpu_check.sh"), str(tmp_path), "nccl", "fused adamw"],
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.stdout.splitlines() == ["SKIP nccl: no CUDA device", "SKIP fused adamw: no CUDA device"], ended.stderr
    assert ended.returncode == 2


def test_a_line_that_crashes_or_hangs_fails_alone(
    check: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripts = {
        "crashes": "import os; os.abort()",
        "hangs": "import time; time.sleep(60)",
        "passes": "print('noise'); print('PASS passes: well')",
    }
    run = subprocess.run

    def instead(command: list[str], **options: Any) -> Any:
        return run([sys.executable, "-c", scripts[command[-1]]], **options)

    monkeypatch.setattr(check, "LINES", {name: check.Line(lambda _: "", 3.0) for name in scripts})
    monkeypatch.setattr(check.subprocess, "run", instead)
    assert check.main([]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("FAIL crashes: ended with status -6")
    assert said[1:] == ["FAIL hangs: no end within 3 s", "PASS passes: well"]


def test_what_is_not_installed_is_named(check: Any) -> None:
    with pytest.raises(check.Skip, match=r"cannot import no_such_module .*carry its wheel"):
        check.need("no_such_module")


@pytest.mark.parametrize(("loss", "gradient", "right"), [(1.0, 1.0, True), (1.1, 1.0, False), (1.0, 1.2, False)])
def test_a_device_that_computes_otherwise_fails(check: Any, loss: float, gradient: float, right: bool) -> None:
    one = torch.ones(3)
    results = {"cpu": (1.0, one), "cuda": (loss, gradient * one)}
    if right:
        assert check.differences(results, 1e-3).startswith("loss 1.000000")
    else:
        with pytest.raises(AssertionError, match="on the device"):
            check.differences(results, 1e-3)


def test_the_lines_fit_into_eight_minutes(check: Any) -> None:
    assert check.TOGETHER_SECONDS < 480
    assert all(line.seconds <= 150 for line in check.LINES.values())


def _wheel(directory: Path) -> bytes:
    import zipfile

    path, about = directory / "made", "carried_along-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("carried_along.py", "")
        file.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: carried-along\nVersion: 1.0\n")
        file.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{about}/RECORD", f"carried_along.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    content = path.read_bytes()
    path.unlink()
    return content
