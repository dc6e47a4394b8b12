import sysconfig
from pathlib import Path

import pytest

from rf_platform.doctor.check import Status
from rf_platform.doctor.packages import gpus, import_modules

LISTING = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1234)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-5678)
"""


def test_modules_that_import() -> None:
    assert import_modules("json", "sqlite3").status is Status.OK


def test_a_broken_native_library_is_quoted(tmp_path: Path) -> None:
    (tmp_path / f"broken{sysconfig.get_config_var('EXT_SUFFIX')}").write_bytes(b"\x7fELF is not enough")
    found = import_modules("json", "broken", search=tmp_path)
    assert found.status is Status.FAIL
    assert "`import json, broken` fails: ImportError: " in found.detail
    assert "file too short" in found.detail
    assert "\n" not in found.detail


def test_a_missing_module_is_named() -> None:
    assert "No module named 'surely_not_there'" in import_modules("surely_not_there").detail


def test_a_crash_does_not_take_the_doctor_along(tmp_path: Path) -> None:
    (tmp_path / "crash.py").write_text("import os\nos.abort()\n")
    found = import_modules("crash", search=tmp_path)
    assert (found.status, found.detail) == (Status.FAIL, "`import crash` crashed with SIGABRT")


def test_an_import_that_hangs_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "hang.py").write_text("import time\ntime.sleep(60)\n")
    found = import_modules("hang", search=tmp_path, timeout=0.5)
    assert (found.status, found.detail) == (Status.FAIL, "`import hang` did not finish within 0.5 s")


@pytest.mark.parametrize(
    ("listing", "versions", "says"),
    [
        ("", {}, "none seen; the CPU is used"),
        (LISTING, {"fbgemm-gpu": "1.8.0"}, "GPU 0: NVIDIA H100 80GB HBM3; GPU 1: NVIDIA H100 80GB HBM3"),
        (LISTING, {"fbgemm-gpu-cpu": "1.8.0"}, "not used, because the CPU packages are installed"),
    ],
)
def test_gpus_are_information(listing: str, versions: dict[str, str], says: str) -> None:
    found = gpus(listing, versions)
    assert found.status is Status.OK
    assert says in found.detail
    assert "UUID" not in found.detail
