"""Warnings about events that are no wishes: by name, by rating, by number; and the lines that declare them."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rf_platform.data.report import ImportReport
from rf_platform.data.scaffold import init_repo
from rf_platform.doctor.check import Status
from rf_platform.errors import ConfigError
from rf_platform.features.apply import apply_definitions
from rf_platform.features.meaning_rules import parse_meanings
from rf_platform.features.meanings import meaning_of
from rf_platform.settings import Settings
from rf_platform.workspace import Workspace

Bring = Callable[..., ImportReport]
Row = tuple[str | None, float | str | None]

_MAPPING = """
name: shop
interactions:
  file: e.csv
  user: who
  item: what
  timestamp: {column: at, format: seconds}
  event_type: kind
  rating: RATING
  context: CONTEXT
"""


def give(bring: Bring, rows: Sequence[Row], rating: str = "stars", context: str = "[]") -> tuple[str, ...]:
    text = "who,what,at,kind,stars\n"
    for n, (kind, stars) in enumerate(rows):
        text += f"{n % 5},{n},{n + 1000},{kind or ''},{'' if stars is None else stars}\n"
    mapping = _MAPPING.replace("RATING", rating).replace("CONTEXT", context)
    if rating == "none":
        mapping = mapping.replace("  rating: none\n", "")
    return tuple(w for w in bring(mapping, {"e.csv": text}, replace=True).warnings if "count as wishes" in w)


def declared(warning: str) -> Any:
    found = re.search(r'"meanings": "(.*)"', warning)
    assert found, warning
    return parse_meanings(found[1].replace('\\"', '"'), "view 'h'")


@pytest.mark.parametrize(
    "kind",
    [
        "dislike", "Disliked", "DISLIKE", "unlike", "skip", "song_skipped", "songSkip", "hide", "item-hidden", "report",
        "Reported", "return", "product_return", "refund", "refunded", "thumbs_down", "thumbsDown", "thumbs-down",
        "not_interested", "notInterested", "Not Interested", "downvote", "dismiss", "swipe_left", "event:reject",
        "retourniert", "Rücksendung", "storniert", "gefällt_nicht", "retourné", "Devolución",
    ],
)  # fmt: skip
def test_names_of_refusals(bring: Bring, kind: str) -> None:
    (warning,) = give(bring, [("like", None)] * 20 + [(kind, None)] * 3)
    assert f"3 events are of type {kind!r}" in warning
    assert meaning_of(declared(warning), {"event_type": kind}) == "unwanted"
    assert meaning_of(declared(warning), {"event_type": "like"}) == "wanted"


@pytest.mark.parametrize(
    "kind",
    [
        "impression", "Impressions", "ad_impression", "itemImpression", "view-only", "viewOnly", "VIEW_ONLY", "exposure",
        "exposed", "shown", "displayed", "angezeigt", "affiché",
    ],
)  # fmt: skip
def test_names_of_what_was_only_shown(bring: Bring, kind: str) -> None:
    (warning,) = give(bring, [("click", None)] * 20 + [(kind, None)] * 3)
    assert meaning_of(declared(warning), {"event_type": kind}) == "seen"


@pytest.mark.parametrize(
    "kinds",
    [["like", "click"], ["view", "cart", "purchase"], ["rating"], ["play", "preview"], ["it's liked", "unlock"]],
)
def test_names_that_say_nothing_of_the_kind(bring: Bring, kinds: list[str]) -> None:
    assert give(bring, [(kind, None) for kind in kinds for _ in range(20)]) == ()


def test_one_type_that_outnumbers_all_others(bring: Bring) -> None:
    (warning,) = give(bring, [("view", None)] * 200 + [("buy", None)] * 15 + [("cart", None)] * 5)
    assert "'view' has 200 events, and all other types together 20" in warning
    assert meaning_of(declared(warning), {"event_type": "view"}) == "seen"
    assert give(bring, [("view", None)] * 199 + [("buy", None)] * 20) == ()
    assert give(bring, [("view", None)] * 200) == ()  # all of one type: that is the wish
    (named,) = give(bring, [("impression", None)] * 300 + [("buy", None)] * 15)
    assert "proportion" not in named


@pytest.mark.parametrize(
    ("ratings", "below"),
    [
        ([1, 2, 3, 4, 5], 3),
        ([0.5, 1.0, 3.5, 5.0], 2.75),
        ([1, 10, 8, 9], 5.5),
        ([-10, -3.5, 4, 10], 0),
        ([0, 1, 1, 1], 0.5),
        ([-1, 1, 1], 0),
    ],
)
def test_low_ratings(bring: Bring, ratings: list[float], below: float) -> None:
    (warning,) = give(bring, [("rating", r) for r in ratings for _ in range(10)])
    low = sum(10 for r in ratings if r < below)
    assert f"{low} of {10 * len(ratings)} events have a rating below {below:g}" in warning
    (rule,) = declared(warning)
    assert (rule.field, rule.below, rule.meaning) == ("rating", below, "unwanted")


def test_few_low_ratings_and_constant_ones_are_not_worth_a_word(bring: Bring) -> None:
    assert give(bring, [("rating", 5)] * 97 + [("rating", 1)] * 3) == ()
    assert give(bring, [("rating", 5)] * 50) == ()
    assert give(bring, [("rating", None)] * 50) == ()


def test_the_declared_range_counts(bring: Bring) -> None:
    rows: list[Row] = [("rating", r) for r in (3, 4, 5) for _ in range(10)]
    assert give(bring, rows, rating="{column: stars, min: 1, max: 5}") == ()
    (warning,) = give(bring, rows)
    assert "below 4" in warning


@pytest.mark.parametrize(
    ("name", "warns"), [("user_score", True), ("voteCount", True), ("seconds", False), ("scored", False)]
)
def test_numbers_that_are_called_like_ratings(bring: Bring, name: str, warns: bool) -> None:
    found = give(
        bring, [("play", r) for r in (1, 2, 5) for _ in range(10)], rating="none", context=f"{{{name}: stars}}"
    )
    assert bool(found) == warns
    if warns:
        assert (declared(found[0])[0].field, declared(found[0])[0].below) == (name, 3)


def test_init_repo_writes_the_lines_as_comments_and_taken_in_they_hold(
    bring: Bring, workspace: Workspace, tmp_path: Path
) -> None:
    from rf_platform.doctor.workspace import check_meanings

    rows: list[Row] = [("rating", 1), ("rating", 5), ('it\'s "off" (hide)', None), ("impression", None)] * 10
    (warning,) = give(bring, rows)
    repository = tmp_path / "repo"
    init_repo(workspace, repository)
    file = repository / "definitions.py"
    text = file.read_text()
    settings = Settings(home=workspace.root, feature_repo=repository)
    assert apply_definitions(settings).definitions.spec.meanings == ()
    found = check_meanings(settings)
    assert found.status is Status.WARN
    assert "40 wanted; 10 events are of type" in found.detail
    assert '"meanings"' in found.remedy
    (line,) = [line for line in text.splitlines() if '"meanings"' in line]
    file.write_text(text.replace(line, line.replace("# ", "", 1)))
    rules = apply_definitions(settings).definitions.spec.meanings
    assert [meaning_of(rules, {"event_type": kind, "rating": rating}) for kind, rating in rows[:4]] == [
        "unwanted", "wanted", "unwanted", "seen",
    ]  # fmt: skip
    found = check_meanings(settings)
    assert (found.status, found.detail) == (Status.OK, "10 wanted, 20 unwanted, 10 seen, by 3 rules")
    assert give(bring, rows) == (warning,)


def test_what_the_imported_log_does_not_have_is_refused_at_apply(
    bring: Bring, workspace: Workspace, tmp_path: Path
) -> None:
    give(bring, [("rating", 1), ("rating", 5)] * 10)
    init_repo(workspace, tmp_path / "repo")
    file = tmp_path / "repo" / "definitions.py"
    text, settings = file.read_text(), Settings(home=workspace.root, feature_repo=tmp_path / "repo")
    (line,) = [line for line in text.splitlines() if '"meanings"' in line]
    for rules, message in (
        (
            "[{field: stars, below: 3, is: unwanted}]",
            "names the field 'stars', which .* does not have .*numbers that it has: rating",
        ),
        (
            "[{type: a, is: seen}, {type: a, is: ignored}]",
            "view 'interaction_context' has the tag meanings, rule 2.*never applies",
        ),
    ):
        file.write_text(text.replace(line, f'        "meanings": "{rules}",'))
        with pytest.raises(ConfigError, match=message):
            apply_definitions(settings)
