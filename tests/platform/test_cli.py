"""The command line as a whole: what it imports, what it says, and how it ends."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rf_platform.cli import main
from rf_platform.cli.commands import COMMANDS
from rf_platform.settings import get_settings
from rf_training.recipes import get_recipe

REPOSITORY = Path(__file__).parents[2] / "feature_repo" / "movielens"
HEAVY = ("torch", "torchrec", "fbgemm_gpu", "feast", "duckdb", "pandas", "pyarrow", "faiss", "sqlalchemy", "grpc")
MODULES = """
import json, sys
def loaded():
    return sorted({name.partition(".")[0] for name in sys.modules})
"""


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that sees this project."""
    return subprocess.run(
        [sys.executable, "-c", MODULES + code, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [n for n in os.environ if n.startswith("RF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RF_HOME", str(tmp_path / "nothing-here"))
    monkeypatch.setenv("COLUMNS", "120")
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def rf(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the real entry point; returns exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rf", *arguments])
        get_settings.cache_clear()
        capsys.readouterr()
        try:
            main()
            code: Any = 0
        except SystemExit as exit:
            code = exit.code
        out, err = capsys.readouterr()
        return int(code or 0), out, err

    return run


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["no-such-command"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = python(
        """
from rf_platform.cli import main
try:
    main()
except SystemExit as end:
    sys.stderr.write("LOADED " + json.dumps([end.code or 0, loaded()]))
""",
        *arguments,
    )
    code, modules = json.loads(done.stderr.rpartition("LOADED ")[2])
    assert code == (2 if arguments == ["no-such-command"] else 0)
    assert "rich" in modules  # the list is real
    assert [m for m in HEAVY if m in modules] == []
    if arguments != ["train", "--help"]:
        assert [m for m in modules if m in ("rf_training", "rf_serving")] == []
    if arguments == ["--help"]:
        for name, entry in COMMANDS.items():
            assert f" {name} " in done.stdout
            assert entry.summary.split()[0] in done.stdout


def test_every_command_loads_and_none_is_heavy() -> None:
    done = python(
        """
import importlib
import typer
from rf_platform.cli.commands import COMMANDS
for name, entry in COMMANDS.items():
    module, attribute = entry.target.split(":")
    assert isinstance(getattr(importlib.import_module(module), attribute), typer.Typer), name
    heavy = [m for m in ("torch", "feast", "faiss") if m in loaded()]
    assert not heavy, f"{name} imports {heavy}"
"""
    )
    assert done.returncode == 0, done.stderr


def test_documents_in_json_are_asked_for_in_one_way() -> None:
    done = python(
        """
import importlib
import typer.main
from rf_platform.cli.commands import COMMANDS
def options(command):
    for each in getattr(command, "commands", {}).values():
        yield from options(each)
    yield from command.params
commands = [entry.target.split(":") for entry in COMMANDS.values()]
found = [o for m, a in commands for o in options(typer.main.get_command(getattr(importlib.import_module(m), a)))]
print(*(f"{o.name}: {o.help}" for o in found if "--json" in o.opts), sep="\\n")
"""
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) > 25
    assert set(said) == {"as_json: Print one JSON document."}


def test_an_unknown_command_suggests_one(rf: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = rf("datset", "build")
    assert (code, out) == (2, "")
    assert "No such command 'datset'" in err
    assert "Did you mean 'dataset'" in err
    code, _, err = rf("dataset", "biuld")
    assert code == 2
    assert "Did you mean 'build'" in err


def test_without_a_command_it_shows_what_there_is(rf: Callable[..., tuple[int, str, str]]) -> None:
    _, out, err = rf()
    assert all(f" {name} " in out + err for name in COMMANDS)


def one_sentence(err: str) -> str:
    """Return the only line of an error."""
    assert "Traceback" not in err
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


@pytest.fixture
def bare() -> None:
    """The workspace is there, with nothing in it."""
    Path(os.environ["RF_HOME"]).mkdir()


@pytest.mark.usefixtures("bare")
def test_wrong_usage_ends_with_one_sentence_and_2(rf: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = rf("train", "--set", "model.dmi=3")
    assert (code, out) == (2, "")
    assert one_sentence(err) == "--set 'model.dmi=3': no setting model.dmi; did you mean model.dim?"
    code, _, err = rf("train", "--resume", "--set", "model.dim=32")
    assert code == 2
    assert "--resume" in one_sentence(err)


@pytest.mark.usefixtures("bare")
def test_what_a_user_typed_is_shown_as_it_was(rf: Callable[..., tuple[int, str, str]]) -> None:
    """Square brackets are no markup, and a long message is not broken into lines."""
    typed = "model.[bold]dim[/]=" + "3" * 300
    assert typed in one_sentence(rf("train", "--set", typed)[2])


def test_nothing_built_yet_ends_with_one_sentence_and_2(
    rf: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    code, out, err = rf("--home", str(tmp_path / "home"), "dataset", "show")
    assert (code, out) == (2, "")
    assert "rf dataset build" in one_sentence(err)
    assert str(tmp_path / "home") in one_sentence(err)


@pytest.mark.parametrize("command", [("dataset", "show"), ("bundles",), ("data", "show"), ("events", "show")])
def test_a_workspace_that_is_not_there_is_named_and_not_made(
    rf: Callable[..., tuple[int, str, str]], tmp_path: Path, command: tuple[str, ...]
) -> None:
    code, out, err = rf("--home", str(tmp_path / "hme"), *command)
    assert (code, out) == (2, "")
    assert str(tmp_path / "hme") in one_sentence(err)
    assert not (tmp_path / "hme").exists()


def test_a_wrong_setting_ends_with_one_sentence_and_2(
    rf: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RF_THREADS", "many")
    code, out, err = rf("dataset", "show")
    assert (code, out) == (2, "")
    assert "RF_THREADS" in one_sentence(err)


@pytest.mark.usefixtures("bare")
def test_a_bug_keeps_its_traceback(rf: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("rf_platform.registry.Registry.open", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        rf("dataset", "show")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, write_tables: Callable[..., None]) -> Path:
    """Tiny tables and a copy of the shipped feature repository."""
    home = tmp_path_factory.mktemp("cli") / ("a-long-path-" * 10) / "home"
    write_tables(home / "tables", users=4, items=12, events=6)
    shutil.copytree(REPOSITORY, home / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    return home


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace's feature repository is used; RF_HOME still names another, empty workspace."""
    monkeypatch.setenv("RF_FEATURE_REPO", str(workspace / "feature_repo"))
    return workspace


def test_from_features_to_a_dataset(
    rf: Callable[..., tuple[int, str, str]], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each ``--json`` prints one document and nothing else; ``--home`` wins over ``RF_HOME``."""
    empty = Path(os.environ["RF_HOME"])

    def document(*arguments: str) -> Any:
        monkeypatch.setenv("RF_HOME", str(empty))
        code, out, err = rf("--home", str(here), *arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    assert rf("--home", str(here), "features", "apply")[0] == 0
    shown = document("features", "show")
    assert {f["view"] for f in shown["fields"]} == {"item_attributes", "user_profile", "interaction_context"}
    built = document("dataset", "build")
    assert built["new"] is True
    assert built["spec_hash"] == shown["hash"]
    assert built["counts"]["events"] == 24
    assert Path(built["path"]).is_relative_to(here)
    described = document("dataset", "show")
    assert described == {k: v for k, v in built.items() if k not in ("new", "seconds", "peak_bytes")}
    assert document("dataset", "show", built["name"]) == described
    narrow, chosen = (document("dataset", "show", "--memory", *dim) for dim in (["--dim", "8"], []))
    assert narrow["items"] == 12
    assert narrow["choices"]["one embedding per item"]["weights_bytes"] == 12 * 8 * 4
    assert chosen["dim"] == get_recipe("default").model.dim
    assert "--memory" in one_sentence(rf("--home", str(here), "dataset", "show", "--dim", "8")[2])
    assert "un-shared" in rf("--home", str(here), "dataset", "show", "--memory")[1]
    assert document("bundles")["bundles"] == []
    assert not empty.exists()

    monkeypatch.setenv("RF_HOME", str(here))
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = rf("dataset", "show")
    assert code == 0
    assert [value for value in ("name", "fingerprint", "path") if built[value] not in out] == []
    assert rf("--home", str(empty), "dataset", "show")[0] == 2

    # A damaged dataset: the run failed, the usage was right.
    monkeypatch.setenv("RF_HOME", str(here))
    spec = Path(built["path"]) / "spec.json"
    spec.write_text(spec.read_text().replace('"service": "retrieval"', '"service": "other"'))
    code, out, err = rf("dataset", "show")
    assert (code, out) == (1, "")
    assert str(spec) in one_sentence(err)

    # So does an import without events: the failure of a long command, below its progress.
    log = here / "tables" / "interactions.parquet"
    pq.write_table(pq.read_table(log).slice(0, 0), log)
    code, out, err = rf("dataset", "build")
    assert (code, out) == (1, "")
    assert "is empty" in one_sentence(err.splitlines()[-1])
    assert "Traceback" not in err


def test_datasets_by_protocol(
    rf: Callable[..., tuple[int, str, str]], here: Path, write_tables: Callable[..., None]
) -> None:
    """Options reach the protocol, the answer counts warm and cold targets, and an option of another protocol is refused."""
    write_tables(here / "tables", users=8, items=12, events=6)
    code, _, err = rf("--home", str(here), "dataset", "build", "--cold-share", "0.1")
    assert code == 2
    assert "--cold-share belongs to --protocol cold-items, not to leave-one-out" in one_sentence(err)

    assert rf("--home", str(here), "features", "apply")[0] == 0
    temporal = (
        "--protocol",
        "temporal",
        "--validation-cut",
        "0.5",
        "--test-cut",
        "2024-01-02T10:00",
        "--new-items-only",
    )
    for protocol, expected in (
        (("--protocol", "leave-one-out"), {"name": "leave-one-out"}),
        (
            ("--protocol", "leave-one-out-cold", "--cold-users", "1", "--validation-cold-users", "1", "--seed", "3"),
            {"name": "leave-one-out-cold", "cold_users": 1, "validation_cold_users": 1, "seed": 3},
        ),
        (("--protocol", "cold-items", "--cold-share", "0.3"), {"name": "cold-items", "cold_share": 0.3}),
        (temporal, {"name": "temporal", "validation_cut": 0.5, "test_cut": "2024-01-02T10:00:00+00:00"}),
    ):
        code, out, err = rf("--home", str(here), "dataset", "build", *protocol, "--json")
        assert code == 0, err
        built = json.loads(out)
        assert built["new"]
        assert built["protocol"].items() >= expected.items()
        for part in ("validation", "test"):
            assert sum(built["targets"][part].values()) == built["counts"][part]
    code, out, _ = rf("--home", str(here), "dataset", "build", *temporal)
    assert code == 0
    assert out.startswith("coverage: ")
    assert f"unchanged: {built['name']}: " in out
    assert f" and {built['targets']['test']['cold']} cold test targets" in out
    assert "temporal" in rf("--home", str(here), "dataset", "show")[1]

    # Positions are no times.
    record = here / "tables" / "import.json"
    record.write_text(record.read_text().replace("observed", "position"))
    code, _, err = rf("--home", str(here), "dataset", "build", "--protocol", "temporal")
    assert code == 2
    assert "made from positions" in one_sentence(err)
