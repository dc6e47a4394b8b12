import json
from pathlib import Path

import pytest

from rf_platform.errors import ConfigError, NotFoundError
from rf_platform.policies import AnyOf, Placement, Policy, load_policy, policy_schema, read_policy

SHOP = """
lists:
  trending-week: {kind: trending, half_life_days: 7}
placements:
  home:
    sources: {use: [{source: model, quota: 16}, {source: trending-week, quota: 4}]}
    seen: [{event_types: [purchase], days: 30}]
    eligibility: ["item__in_stock=true", {any: ["item__price<10", {not: "item__brand=acme"}]}]
    boosts: [{name: own brand, where: ["item__brand=own"], factor: 1.2}]
    caps: [{feature: item__brand, most: 2, window: 5}]
    diversity: {lambda: 0.7}
    pins: [{item: 12, place: 1}]
    exploration: {share: 0.1}
    goals: {purchase: 1, view: 0.2}
default: home
"""


def test_a_policy_is_read_as_it_is_written() -> None:
    policy = read_policy(SHOP, "shop.yaml")
    home = policy.placements["home"]
    assert policy.default == "home"
    assert isinstance(home.eligibility[1], AnyOf)
    assert (home.pins[0].item, home.caps[0].name) == ("12", "item__brand 2 in 5")
    assert home.diversity is not None
    assert home.diversity.trade == 0.7
    assert read_policy("placements: {}", "empty.yaml") == Policy()


@pytest.mark.parametrize(
    ("written", "instead", "said"),
    [
        ("most: 2", "most: 0", r"placements\.home\.caps\[0\]\.most: .*greater than or equal to 1 \(given: 0\)"),
        ("most: 2", "most: 7", r"caps\[0\]: most 7 of 5 places is no limit"),
        ("most:", "mosst:", r"unknown key 'placements\.home\.caps\[0\]\.mosst'; did you mean 'most'\?"),
        ("0.7", "1.7", r"placements\.home\.diversity\.lambda: .*less than or equal to 1 \(given: 1\.7\)"),
        ("factor: 1.2", "factor: .inf", r"boosts\[0\]\.factor: .*finite number"),
        ("factor: 1.2", "factor: 1.2, offset: 1", r"boosts\[0\]: give either 'factor' or 'offset'"),
        ("quota: 4", "quota: -4", r"sources\.use\[1\]\.quota: .*greater than or equal to 0 \(given: -4\)"),
        (
            "item__price<10",
            "item__price~10",
            r"eligibility\[1\]\.any\[0\]: the condition 'item__price~10' is no condition",
        ),
        ("{not:", "{nott:", r"eligibility\[1\]\.any\[1\]: no condition: write a text"),
        (
            "source: trending-week",
            "source: trendy",
            r"placements\.home: there is no list 'trendy'; known are trending-week",
        ),
        ("{item: 12, place: 1}", "{item: 12, place: 1}, {item: 13, place: 1}", "pins: the place '1' is given twice"),
        ("default: home", "default: hom", "default: there is no placement 'hom'; known are home"),
        ("default: home", "default: home\ndefault: home", "the key 'default' is given twice"),
        ("purchase: 1, view: 0.2", "purchase: 0", "goals: no goal has a weight above 0"),
        ("quota: 4", "quota: 1e300", r"use\[1\]\.quota: .*less than or equal to 1000000"),
        ("quota: 4", "co_occurrence: 0.5", r"sources\.use\[1\]: 'co_occurrence' belongs to the source 'similar' alone"),
        ("days: 30", "dayz: 30", r"unknown key 'placements\.home\.seen\[0\]\.dayz'; did you mean 'days'"),
        ("  home:", "  hömé:", r"placements\.hömé: String should match pattern"),
        ("lambda: 0.7", "lambda: .nan", r"diversity\.lambda: .*finite number"),
        ("place: 1", "place: 1000000000", r"pins\[0\]\.place: .*less than or equal to 100000"),
        ("half_life_days: 7", "half_life_days: 1e300", r"half_life_days: .*less than or equal to 36500"),
        ("half_life_days: 7", "weights: {view: -1}", r"weights\.view: .*greater than or equal to 0"),
        (
            "half_life_days: 7",
            "weights: {view: 0}, event_types: [view]",
            "weights: no event type that counts has a weight",
        ),
        (
            "kind: trending, half_life_days: 7",
            "kind: new, weights: {view: 2}",
            "'weights' are of events that are counted",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_place(written: str, instead: str, said: str) -> None:
    assert written in SHOP
    with pytest.raises(ConfigError, match=said):
        read_policy(SHOP.replace(written, instead, 1), "shop.yaml")


@pytest.mark.parametrize(
    ("rules", "rule", "said"),
    [
        ("boosts", "{name: b%d, where: [a__b=1], offset: 1}", "boosts: Tuple should have at most 100 items"),
        ("pins", "{item: %d, place: 1}", "pins: Tuple should have at most 1000 items"),
        ("caps", "{feature: a__b%d, most: 1}", "caps: Tuple should have at most 20 items"),
        ("seen", "{days: %d}", "seen: Tuple should have at most 100 items"),
    ],
)
def test_ten_thousand_rules_are_refused(rules: str, rule: str, said: str) -> None:
    written = ", ".join(rule % number for number in range(1, 2001))
    with pytest.raises(ConfigError, match=said):
        read_policy(f"placements: {{home: {{{rules}: [{written}]}}}}", "many.yaml")


def test_factors_that_multiply_to_infinity_are_refused() -> None:
    boosts = ", ".join(f"{{name: b{number}, where: [a__b=1], factor: 0.001}}" for number in range(11))
    with pytest.raises(ConfigError, match=r"placements\.home: boosts: the factors together .* 1\.0e\+33"):
        read_policy(f"placements: {{home: {{boosts: [{boosts}]}}}}", "wild.yaml")


def test_the_schema_tells_every_key() -> None:
    schema = json.loads(policy_schema())
    home = schema["$defs"]["Placement"]["properties"]
    assert list(home) == list(Placement.model_fields)
    assert home["boosts"]["maxItems"] == 100
    assert schema["$defs"]["Diversity"]["properties"]["lambda"]["description"].startswith("λ: 1 keeps the order")


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no policy file"):
        load_policy(tmp_path / "shop.yaml")
    (tmp_path / "shop.yaml").write_bytes(b"\xff\xfe: 1")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_policy(tmp_path / "shop.yaml")
