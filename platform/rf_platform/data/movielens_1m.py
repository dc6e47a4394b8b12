"""MovieLens-1M: GroupLens' own files, or the Parquet form with positions instead of times."""

from pathlib import Path

from rf_platform.data.locate import Location
from rf_platform.data.log_columns import id_field, log_outputs, positions_table, time_field
from rf_platform.data.movielens import (
    EVENT_TYPE,
    FEATURE_REPO,
    OCCUPATIONS_1M,
    item_outputs,
    occupation_1m,
    user_outputs,
)
from rf_platform.data.specs import (
    EventTime,
    Field,
    InputFile,
    Kind,
    ParquetFormat,
    SourceSpec,
    TableSpec,
    TextFormat,
    TimeFormat,
)
from rf_platform.errors import NotFoundError, UsageError
from rf_platform.literals import Writing

NAME = "movielens-1m"
_GROUPLENS = ("ratings.dat", "movies.dat", "users.dat")
_PARQUET = ("interactions.parquet", "items.parquet", "users.parquet")


def movielens_1m(path: Path | None, scratch: Path) -> SourceSpec:
    """Find MovieLens-1M in a directory or zip archive.

    Raises:
        UsageError: no path is given.
        NotFoundError: the files are not there.
    """
    if path is None:
        raise UsageError(
            "movielens-1m needs the PATH of ml-1m.zip or of the directory it unpacks to; "
            "GroupLens offers it for download at grouplens.org/datasets/movielens/1m"
        )
    place = Location(path, scratch)
    for names, time, tables in (
        (_GROUPLENS, EventTime.OBSERVED, _grouplens),
        (_PARQUET, EventTime.POSITION, _parquet),
    ):
        files = [place.find(name) for name in names]
        if all(files):
            return SourceSpec(
                name=NAME,
                feature_repo=FEATURE_REPO,
                tables=tables(*(f for f in files if f)),
                time=time,
                display=("title",),
            )
    raise NotFoundError(
        f"no MovieLens-1M in {path}: neither {', '.join(_GROUPLENS)} nor {', '.join(_PARQUET)} are there, "
        f"at the top or one directory below"
    )


def _user_fields(user: str, zip_code: str) -> tuple[Field, ...]:
    return (
        id_field("user", user, Kind.INT),
        Field(name="gender", column="gender", kind=Kind.STRING),
        Field(name="age", column="age", kind=Kind.INT, minimum=0),
        Field(name="occupation", column="occupation", kind=Kind.INT, minimum=0, maximum=len(OCCUPATIONS_1M) - 1),
        Field(name="zip", column=zip_code, kind=Kind.STRING),
    )


def _grouplens(ratings: InputFile, movies: InputFile, users: InputFile) -> tuple[TableSpec, ...]:
    def layout(*header: str) -> TextFormat:
        return TextFormat(delimiter="::", quote=None, encoding="latin-1", header=header)

    return (
        TableSpec(
            table="interactions",
            files=(ratings,),
            format=layout("user id", "movie id", "rating", "timestamp"),
            fields=(
                id_field("user", "user id", Kind.INT),
                id_field("item", "movie id", Kind.INT),
                Field(name="rating", column="rating", kind=Kind.FLOAT, required=True, minimum=1, maximum=5),
                time_field("timestamp", TimeFormat.SECONDS),
            ),
            outputs=log_outputs(event_type=EVENT_TYPE, has_rating=True, time=EventTime.OBSERVED),
        ),
        TableSpec(
            table="items",
            files=(movies,),
            format=layout("movie id", "title", "genres"),
            fields=(
                id_field("item", "movie id", Kind.INT),
                Field(name="title", column="title", kind=Kind.STRING),
                Field(name="genres", column="genres", kind=Kind.STRINGS, writing=Writing(separator="|")),
            ),
            outputs=item_outputs(title="title", genres="genres"),
        ),
        TableSpec(
            table="users",
            files=(users,),
            format=layout("user id", "gender", "age", "occupation", "zip code"),
            fields=_user_fields("user id", "zip code"),
            outputs=user_outputs(occupation=occupation_1m()),
        ),
    )


def _parquet(interactions: InputFile, items: InputFile, users: InputFile) -> tuple[TableSpec, ...]:
    return (
        positions_table(interactions, EVENT_TYPE),
        TableSpec(
            table="items",
            files=(items,),
            format=ParquetFormat(),
            fields=(
                id_field("item", "item_id", Kind.INT),
                Field(name="title", column="title", kind=Kind.STRING),
                Field(name="genres", column="genres", kind=Kind.STRINGS),
                Field(name="year", column="year", kind=Kind.INT),
            ),
            outputs=item_outputs(title="title", genres="genres", year="year"),
        ),
        TableSpec(
            table="users",
            files=(users,),
            format=ParquetFormat(),
            fields=_user_fields("user_id", "zip"),
            outputs=user_outputs(occupation=occupation_1m()),
        ),
    )
