"""The wheel, installed away from the checkout: nothing is missing in it, and the whole way works from it."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PLACES = {
    "console/rf_console": "rf_console",
    "api/retrievalformer": "retrievalformer",
    "platform/rf_platform": "rf_platform",
    "training/rf_training": "rf_training",
    "serving/rf_serving": "rf_serving",
    "protos/rf_protos": "rf_protos",
    "feature_repo": "rf_platform/feature_repo",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as `pip wheel .` builds it."""
    directory = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = directory.glob("*.whl")
    return built


def test_all_of_the_packages_is_in_it(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {
        f"{target}/{path.relative_to(ROOT / source).as_posix()}"
        for source, target in PLACES.items()
        for path in (ROOT / source).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "rf_platform/feature_repo/movielens/feature_store.yaml" in wanted
    assert packed == wanted


@pytest.mark.timeout(600)
def test_the_whole_way_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """The dependencies are those of this interpreter, whose .pth files, the checkout's among them, are not read again."""
    home = tmp_path / "venv"
    venv.create(home, symlinks=True)
    paths = sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)})
    own = Path(paths["purelib"])
    others = dict.fromkeys(sysconfig.get_paths()[kind] for kind in ("purelib", "platlib"))
    (own / "dependencies.pth").write_text("\n".join(others) + "\n")
    python = Path(paths["scripts"]) / "python"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RF_"))}
    environment |= {"RF_HOME": str(tmp_path / "work"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--no-compile",
        str(wheel),
    )
    program = "import sys, rf_platform; print(rf_platform.__file__); print(sys.path)"
    file, path = run(str(python), "-c", program).splitlines()
    assert Path(file).is_relative_to(own)
    assert not any(str(ROOT / source.partition("/")[0]) in path for source in PLACES)
    said = run(str(python.with_name("rf")), "demo", "--quick")
    assert "Every step works here" in said
    assert said.count("rf query --user") == 3
