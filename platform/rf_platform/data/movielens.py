"""Common parts of the MovieLens sets, for every file layout."""

from rf_platform.data.log_columns import STATIC
from rf_platform.sql import literal

FEATURE_REPO = "movielens"
EVENT_TYPE = "rating"
OCCUPATIONS_1M = (
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)
"""Names of the occupation codes of MovieLens-1M, from its README."""

_STOP_WORDS = ("a", "an", "and", "at", "by", "for", "from", "in", "is", "of", "on", "or", "the", "to", "with")
_AGE_GROUPS = (18, 25, 35, 45, 50, 56)
_APOSTROPHES = "''\u2019"  # the plain one doubled, as inside an SQL text
_YEAR = r"\(([0-9]{4})\)"


def item_outputs(*, title: str, genres: str, year: str | None = None) -> dict[str, str]:
    """Return the outputs of a movie table.

    Args:
        title: SQL of the title, with the year in brackets where it is known.
        genres: SQL of the list of genres.
        year: SQL of the year for titles that have none.
    """
    in_title = rf"TRY_CAST(regexp_extract({title}, '.*{_YEAR}', 1) AS BIGINT)"
    bare = rf"lower(regexp_replace({title}, '{_YEAR}', '', 'g'))"
    plain = f"translate({bare}, '{_APOSTROPHES}', '')"
    words = rf"regexp_extract_all({plain}, '[\p{{L}}\p{{N}}]+')"
    stop = ", ".join(literal(w) for w in _STOP_WORDS)
    return {
        "item_id": "item_id",
        **STATIC,
        "title": title,
        "genres": f"list_filter({genres}, lambda g: g <> 'unknown')",
        "release_year": f"coalesce({in_title}, {year})" if year else in_title,
        "title_words": f"list_filter({words}, lambda w: w NOT IN ({stop}))",
    }


def user_outputs(*, occupation: str) -> dict[str, str]:
    """Return the outputs of a user table with the fields gender, age and zip; ``occupation`` is SQL of its name."""
    groups = " ".join(
        f"WHEN age < {limit} THEN {group}" for group, limit in zip((1, *_AGE_GROUPS), _AGE_GROUPS, strict=False)
    )
    return {
        "user_id": "user_id",
        **STATIC,
        "gender": "gender",
        "age_group": f"CASE {groups} WHEN age IS NOT NULL THEN {_AGE_GROUPS[-1]} END::BIGINT",
        "occupation": occupation,
        "zip_area": "nullif(regexp_extract(zip, '^[0-9]'), '')",
    }


def occupation_1m() -> str:
    """Return SQL that names the code in the field ``occupation``."""
    names = ", ".join(literal(name) for name in OCCUPATIONS_1M)
    return f"[{names}][occupation + 1]"
