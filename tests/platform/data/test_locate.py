"""Where files lie: patterns in directories and archives, hidden files, names with any characters."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rf_platform.data.locate import Location
from rf_platform.data.report import ImportReport

Bring = Callable[..., ImportReport]

_FILES = (
    *(
        "e/a.csv",
        "e/2024/b.csv",
        "e/2024/01/c.csv",
        "e/[1].csv",
        "e/per%2Fcent.csv",
        'e/it\'s a "q" ü.csv',
        "other/a.csv",
    ),
    *(
        "e/._a.csv",
        "e/.hidden/a.csv",
        "e/_SUCCESS",
        "e/.a.csv.crc",
        "__MACOSX/e/a.csv",
        "e/_delta_log/x.csv",
        "e/Thumbs.db",
    ),
)


@pytest.fixture(params=["directory", "archive"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """The same files in a directory with a name that means something in a pattern, and in an archive."""
    directory = tmp_path / "in [a-z]*?"
    for name in _FILES:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)
    if request.param == "directory":
        return Location(directory, tmp_path)
    archive = tmp_path / "in [a-z].zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in _FILES:
            file.write(directory / name, name)
    return Location(archive, tmp_path)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("e/a.csv", ["e/a.csv"]),
        ("e/[1].csv", ["e/[1].csv"]),  # there is a file of this very name
        ("e/[ab].csv", ["e/a.csv"]),
        ("e/[!b].csv", ["e/a.csv"]),
        ("e/per%2Fcent.csv", ["e/per%2Fcent.csv"]),
        ("*/a.csv", ["e/a.csv", "other/a.csv"]),
        ("**/a.csv", ["e/a.csv", "other/a.csv"]),
        ("e/**/*.csv", list(_FILES[:6])),
        ("e/**/[bc].csv", ["e/2024/b.csv", "e/2024/01/c.csv"]),
        ("e/**", list(_FILES[:6])),
        ("**/01/*", ["e/2024/01/c.csv"]),
        ("e/*", ["e/a.csv", "e/[1].csv", "e/per%2Fcent.csv", 'e/it\'s a "q" ü.csv']),
        ("e/._a.csv", ["e/._a.csv"]),  # asked for by name
        ("e/.hidden/*.csv", ["e/.hidden/a.csv"]),  # the directory is, too
        ("e/_delta_log/**", ["e/_delta_log/x.csv"]),
        ("nowhere/**/*.csv", []),
        ("**/*.parquet", []),
    ],
)
def test_patterns_find_data_wherever_it_lies(place: Location, pattern: str, found: list[str]) -> None:
    assert sorted(f.path.read_text() for f in place.match(pattern)) == sorted(found)


def test_a_pattern_that_says_where_the_data_lie_may_lead_through_hidden_directories(tmp_path: Path) -> None:
    data = tmp_path / ".cache" / "in"
    for name in ("a.csv", ".b.csv", ".old/c.csv"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(name)
    (tmp_path / "mapping").mkdir()
    place = Location(tmp_path / "mapping", tmp_path)
    for pattern in (str(data / "*.csv"), f"{data}/**/*.csv", "../.cache/in/*.csv"):
        assert [f.path.read_text() for f in place.match(pattern)] == ["a.csv"]


def test_all_files_of_a_pattern_are_imported(bring: Bring, inbox: Path) -> None:
    for n, name in enumerate(("ev/a.csv", "ev/2024/b.csv", "ev/2024/01/c.csv")):
        (inbox / name).parent.mkdir(parents=True, exist_ok=True)
        (inbox / name).write_text(f"u,i,t\n{n},1,100\n")
    report = bring("name: shop\ninteractions: {file: 'ev/**/*.csv', user: u, item: i, timestamp: t}\n")
    assert sorted(f.file for f in report.inputs) == ["ev/2024/01/c.csv", "ev/2024/b.csv", "ev/a.csv"]
