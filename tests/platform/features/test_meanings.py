"""What events mean: rules against a plain reading of them, in Python and in SQL, and what is refused with which words."""

import math
import operator
from typing import Any

import duckdb
import numpy as np
import pytest
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, Int64, String
from hypothesis import given, settings
from hypothesis import strategies as st

from rf_platform.errors import ConfigError
from rf_platform.features.meaning_rules import parse_meanings
from rf_platform.features.meanings import (
    MEANINGS,
    MeaningRule,
    check_meaning_columns,
    meaning_of,
    meaning_sql,
    newly_wanted,
    with_meaning,
)
from rf_platform.features.read import parse_definitions
from rf_platform.features.spec import FeatureSpec
from rf_platform.features.spec_fit import SpecFit

TYPES = ["dislike", "view", "Dislike", "it's", "", None]
SINGLE = float(np.float32(3.3))
NUMBERS = [
    None,
    math.nan,
    math.inf,
    -math.inf,
    1e300,
    -1e300,
    0.0,
    -1.0,
    1,
    2,
    3,
    3.3,
    SINGLE,
    2.9999999,
    3.0000001,
    5.0,
]
SIGNS = {"at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt}


@st.composite
def rules(draw: st.DrawFn) -> list[MeaningRule]:
    made = []
    for _ in range(draw(st.integers(0, 5))):
        types = draw(
            st.none() | st.lists(st.sampled_from(["dislike", "view", "it's"]), min_size=1, max_size=3, unique=True)
        )
        field = draw(
            st.sampled_from(["rating", "dwell"]) if types is None else st.none() | st.sampled_from(["rating", "dwell"])
        )
        names = draw(st.lists(st.sampled_from(list(SIGNS)), min_size=1, max_size=2, unique=True)) if field else []
        bounds = {name: draw(st.sampled_from([-1.0, 0.0, 2.0, 3.0, 3.3, 5.0])) for name in names}
        meaning = draw(st.sampled_from(MEANINGS))
        made.append(MeaningRule(meaning=meaning, types=None if types is None else tuple(types), field=field, **bounds))
    return made


EVENTS = st.fixed_dictionaries(
    {"event_type": st.sampled_from(TYPES), "rating": st.sampled_from(NUMBERS), "dwell": st.sampled_from(NUMBERS)}
)


def plain(given_rules: list[MeaningRule], event: dict[str, Any]) -> str:
    for rule in given_rules:
        fits = rule.types is None or event["event_type"] in rule.types
        if rule.field is not None:
            value = event[rule.field]
            known = value is not None and math.isfinite(value)
            for name, compare in SIGNS.items():
                bound = getattr(rule, name)
                if bound is not None:
                    with np.errstate(over="ignore"):
                        fits = fits and known and bool(compare(np.float32(value), np.float32(bound)))
        if fits:
            return rule.meaning
    return "wanted"


@settings(max_examples=100, deadline=None)
@given(rules(), st.lists(EVENTS, min_size=1, max_size=8))
def test_the_first_rule_that_matches_counts_in_python_and_in_sql(
    made: list[MeaningRule], events: list[dict[str, Any]]
) -> None:
    expected = [plain(made, event) for event in events]
    assert [meaning_of(made, event) for event in events] == expected
    for number_type in ("DOUBLE", "FLOAT"):
        with duckdb.connect() as db:
            db.execute(f"CREATE TABLE log (n INTEGER, event_type VARCHAR, rating {number_type}, dwell DOUBLE)")
            for n, event in enumerate(events):
                rating = event["rating"]
                if number_type == "FLOAT" and rating is not None and math.isfinite(rating):
                    rating = max(-3e38, min(3e38, rating))
                db.execute("INSERT INTO log VALUES (?, ?, ?, ?)", [n, event["event_type"], rating, event["dwell"]])
            found = db.execute(f"SELECT {meaning_sql(made, 'l.')} FROM log l ORDER BY n").fetchall()
            assert [row[0] for row in found] == expected
            for meaning in MEANINGS:
                kept = db.execute(f"SELECT n FROM {with_meaning(made, 'log', meaning)} ORDER BY n").fetchall()
                assert [row[0] for row in kept] == [n for n, each in enumerate(expected) if each == meaning]


@settings(max_examples=100, deadline=None)
@given(rules(), rules(), st.lists(EVENTS, min_size=1, max_size=20))
def test_newly_wanted_finds_every_event_that_was_not_wanted_before(
    before: list[MeaningRule], now: list[MeaningRule], events: list[dict[str, Any]]
) -> None:
    example = newly_wanted(before, now)
    if any(meaning_of(now, event) == "wanted" != meaning_of(before, event) for event in events):
        assert example is not None
    assert newly_wanted(now, now) is None
    assert newly_wanted([], now) is None  # nothing is wanted that was not when everything was


def test_a_rating_is_not_below_itself_whatever_bits_it_has() -> None:
    (rule,) = parse_meanings("[{field: rating, below: 3.3, is: unwanted}]", "view 'h'")
    assert [rule.matches({"rating": r}) for r in (3.3, float(np.float32(3.3)), 3.29, 3, True, None, "2")] == [
        False, False, True, True, True, False, False,
    ]  # fmt: skip


def test_the_written_form() -> None:
    text = """
    - {type: [dislike, "not interested"], is: unwanted}
    - {type: rating, field: rating, at_least: 1, below: 2.5, is: unwanted}
    - {type: "no", is: ignored}
    - {field: seconds, at_most: 3, is: seen}
    """
    made = parse_meanings(text, "view 'h'")
    events: list[tuple[dict[str, Any], str]] = [
        ({"event_type": "not interested"}, "unwanted"),
        ({"event_type": "rating", "rating": 1.0}, "unwanted"),
        ({"event_type": "rating", "rating": 0.5}, "wanted"),
        ({"event_type": "like", "rating": 1.0}, "wanted"),
        ({"event_type": "no"}, "ignored"),
        ({"event_type": "view", "seconds": 3}, "seen"),
        ({"event_type": "view", "seconds": 4}, "wanted"),
    ]
    assert [meaning_of(made, event) for event, _ in events] == [meaning for _, meaning in events]
    again = parse_meanings(f"[{', '.join(map(str, made))}]", "view 'h'")
    assert again == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dislike", r"has the tag meanings='dislike'; write a list"),
        ("{type: dislike, is: unwanted}", r"write a list"),
        ("[dislike]", r"write a list"),
        ("[{type: dislike, is: unwanted]", r"is not valid YAML"),
        ("[{type: dislike}]", r"rule 1: 'is' is missing; a meaning is one of wanted, unwanted, seen, ignored"),
        ("[{type: a, is: seen}, {type: dislike, is: negative}]", r"rule 2: 'is' is 'negative'"),
        ("[{types: dislike, is: unwanted}]", r"unknown key 'types'; did you mean 'type'\?"),
        ("[{field: rating, under: 3, is: unwanted}]", r"unknown key 'under'"),
        ("[{is: seen}]", r"no condition"),
        ("[{below: 3, is: seen}]", r"below without the 'field'"),
        ("[{field: rating, is: seen}]", r"field 'rating' without a range"),
        ("[{type: [], is: seen}]", r"'type' is an empty list"),
        ("[{type: no, is: seen}]", r"the type False is no text; put it in quotes"),
        ("[{type: 7, is: seen}]", r"the type 7 is no text"),
        ("[{type: ' x', is: seen}]", r"blanks around it"),
        ("[{field: rating, below: low, is: seen}]", r"below must be a number, not 'low'"),
        ("[{field: rating, below: .inf, is: seen}]", r"below must be a number"),
        ("[{field: rating, below: true, is: seen}]", r"below must be a number"),
        ("[{field: rating, below: 3, at_most: 3, is: seen}]", r"both at_most and below"),
        ("[{field: rating, below: 3, above: 4, is: seen}]", r"no number has above: 4, below: 3"),
        ("[{field: rating, below: 3, at_least: 3, is: seen}]", r"no number has at_least: 3, below: 3"),
        ("[{field: event_type, below: 3, is: seen}]", r"write 'type'"),
        ("[{field: hour, below: 3, is: seen}]", r"'hour' says where and when"),
        ("[{field: 3, below: 3, is: seen}]", r"'field' must be the name of a column"),
        ("[{type: a, is: seen}, {type: a, is: unwanted}]", r"rule 2: \{type: a, is: unwanted\} never applies, since the rules"),
        ("[{type: a, is: seen}, {type: [b, a], is: ignored}]", r"never applies to type 'a'"),
        ("[{field: r, below: 3, is: unwanted}, {field: r, below: 2, is: seen}]", r"rule 2.*never applies"),
        ("[{field: r, below: 3, is: unwanted}, {type: a, field: r, below: 2, is: seen}]", r"rule 2.*never applies"),
        (
            "[{field: r, below: 3, is: seen}, {field: r, at_least: 3, is: seen}, {type: a, field: r, below: 9, is: ignored}]",
            r"rule 3.*never applies",
        ),
    ],
)  # fmt: skip
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        parse_meanings(text, "view 'h'")
    assert str(error.value).startswith("view 'h' has the tag meanings")


def test_a_rule_behind_a_narrower_one_is_no_nonsense() -> None:
    made = parse_meanings(
        "[{type: a, field: r, below: 3, is: unwanted}, {type: a, is: seen}, {field: r, below: 3, is: ignored}]", "v"
    )
    assert [meaning_of(made, e) for e in ({"event_type": "a"}, {"event_type": "a", "r": 1}, {"event_type": "b", "r": 1})] == [
        "seen", "unwanted", "ignored",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("[{type: a, is: seen}]", {"rating": "FLOAT"}, r"names an event type, and the interaction log LOG has no event_type"),
        (
            "[{field: stars, below: 2, is: seen}]",
            {"rating": "FLOAT", "n": "BIGINT", "hour": "BIGINT"},
            r"names the field 'stars'.*numbers that it has: rating, n\)",
        ),
        ("[{field: device, below: 2, is: seen}]", {"device": "VARCHAR"}, r"range of 'device', which holds VARCHAR.*it has: none"),
        ("[{field: tags, below: 2, is: seen}]", {"tags": "BIGINT[]"}, r"range of 'tags', which holds BIGINT\[\]"),
    ],
)  # fmt: skip
def test_a_log_without_the_column_is_refused(text: str, columns: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_meaning_columns(parse_meanings(text, "v"), columns, "LOG")


def spec(
    *tags: dict[str, str], service_tags: dict[str, str] | None = None, user_tags: dict[str, str] | None = None
) -> FeatureSpec:
    user, item = (Entity(name=n, join_keys=[f"{n}_id"], value_type=ValueType.INT64) for n in ("user", "item"))
    columns = [("items", Int64, "item_id"), ("types", String, "event_type"), ("stars", Float32, "rating")]

    def view(name: str, fields: list[Field], tags: dict[str, str]) -> FeatureView:
        source = FileSource(name=name, path=f"/data/{name}.parquet", timestamp_field="ts")
        return FeatureView(name=name, entities=[user], schema=fields, source=source, tags=tags)

    views = [
        view(f"h{n}", [Field(name=name, dtype=Array(dtype), tags={"role": "history", "of": of})], each)
        for n, ((name, dtype, of), each) in enumerate(zip(columns, [*tags, {}, {}, {}][:3], strict=True))
    ]
    views.append(view("people", [Field(name="age", dtype=Int64)], user_tags or {}))
    service = FeatureService(name="s", features=views, tags=service_tags or {})
    return parse_definitions("p", [user, item], views, [service], "s").spec


UNWANTED = "[{type: dislike, is: unwanted}, {field: rating, below: 3, is: unwanted}]"


def test_the_tag_of_a_history_view_is_part_of_the_spec() -> None:
    plain_spec, declared = spec(), spec({"meanings": UNWANTED})
    assert "meanings" not in plain_spec.to_dict()  # its hash is that of specs from before there were meanings
    assert plain_spec.hash == FeatureSpec.from_dict(plain_spec.to_dict()).hash == spec({"meanings": "[]"}).hash
    assert declared.hash != plain_spec.hash
    assert FeatureSpec.from_dict(declared.to_dict()) == declared
    assert spec({"meanings": UNWANTED}, {"meanings": UNWANTED.replace(", ", ",  ")}).hash == declared.hash


@pytest.mark.parametrize(
    ("given_tags", "message"),
    [
        ({"tags": [{"meaning": UNWANTED}]}, r"unknown tag 'meaning'; did you mean 'meanings'"),
        ({"tags": [{"history_lenght": "5"}]}, r"unknown tag 'history_lenght'; did you mean 'history_length'"),
        ({"tags": [{"meanings": UNWANTED}, {"meanings": "[]"}]}, r"history views h0 and h1 .* different meanings tags"),
        (
            {"tags": [], "service_tags": {"meanings": UNWANTED}},
            r"service 's' has the tag meanings, which belongs to the view",
        ),
        ({"tags": [], "user_tags": {"meanings": UNWANTED}}, r"view 'people' has the tag meanings and keeps no history"),
    ],
)
def test_a_tag_that_would_be_overlooked_is_refused(given_tags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spec(*given_tags.pop("tags"), **given_tags)


def test_a_model_bears_fewer_kinds_of_events_in_its_histories_and_no_others() -> None:
    all_wanted, few, fewer = (
        spec(),
        spec({"meanings": UNWANTED}),
        spec({"meanings": "[{type: [dislike, skip], is: seen}, {field: rating, below: 4, is: seen}]"}),
    )
    for built, now in ((all_wanted, few), (few, fewer), (all_wanted, fewer)):
        fit = SpecFit.of(built, now)
        assert not fit.unmet
        assert len(fit.changed) == 1
        (unmet,) = SpecFit.of(now, built).unmet
        assert unmet.startswith("meanings of events changed: events with")
    low = spec({"meanings": "[{field: rating, below: 2, is: unwanted}]"})
    assert SpecFit.of(low, all_wanted).unmet == (
        "meanings of events changed: events with rating 0.0 were unwanted, and are in the history now",
    )
    other = SpecFit.of(
        spec({"meanings": "[{type: dislike, is: unwanted}]"}), spec({"meanings": "[{type: dislike, is: seen}]"})
    )
    assert not other.unmet  # what is in the history stays the same
    assert SpecFit.of(few, few) == SpecFit()


def test_lists_of_too_many_kinds_are_told_as_changed_at_once() -> None:
    """Each list can be told apart by itself; both together have some sixty million kinds of events."""
    before, now = (
        tuple(
            MeaningRule(meaning="unwanted", field=f"{side}{n}", at_least=bound, below=bound + 0.5)
            for n in range(5)
            for bound in (1.0, 2.0)
        )
        for side in "ab"
    )
    assert newly_wanted(before, now) is not None
