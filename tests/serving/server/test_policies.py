"""A policy is applied, and a running server follows it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from structlog.testing import LogCapture

from rf_platform.registry.journal import CatalogJournal, Change
from rf_platform.settings import Settings, get_settings
from rf_protos.v1.deployment_pb2 import GetDeploymentRequest, GetDeploymentResponse
from rf_protos.v1.deployment_pb2_grpc import DeploymentServiceStub
from rf_protos.v1.retrieval_pb2 import RetrieveRequest

if TYPE_CHECKING:
    from rf_platform.registry import Registry

POLICY = """
placements:
  home:
    eligibility: ["item_attributes__release_year>=1960"]
    boosts: [{name: dramas, where: [item_attributes__genres=Drama], offset: 1}]
    pins: [{item: 5, place: 1}, {item: 7, place: 2}]
"""


@pytest.fixture
def rf(
    pair: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_command: Callable[..., tuple[int, str, str]]
) -> Callable[..., tuple[int, str, str]]:
    """Run an ``rf`` command in the workspace; returns exit code, standard output and standard error."""
    monkeypatch.setenv("RF_HOME", str(pair.home))
    monkeypatch.chdir(tmp_path)
    get_settings.cache_clear()

    return run_command


def test_what_is_wrong_is_named_and_not_applied(rf: Any, pair: Settings, pair_registry: "Registry") -> None:
    for written, instead, said in (
        (
            "genres=Drama",
            "genre=Drama",
            "placements.home.boosts[0].where[0].feature: 'item_attributes__genre' is no feature",
        ),
        ("year>=1960", "year>=x", "placements.home.eligibility[0].value: 'x' is no Int64"),
        ("genres=Drama", "genres>=1", "placements.home.boosts[0].where[0].operator: AT_LEAST does not fit"),
        ("item: 5", "item: 61", "placements.home.pins[0].item: the catalog has no item '61'"),
        ("item: 5", "item: five", "placements.home.pins[0].item: 'five'"),
        ("offset: 1", "offset: .inf", "placements.home.boosts[0].offset: Input should be a finite number"),
    ):
        assert written in POLICY
        Path("shop.yaml").write_text(POLICY.replace(written, instead))
        for command in ("check", "apply"):
            code, _, err = rf("policy", command, "shop.yaml")
            assert (code, said in " ".join(err.split())) == (2, True), err
    assert pair_registry.policies.newest() is None
    assert rf("policy", "show")[0] == 2
    journal = CatalogJournal.open(pair.platform_registry_url)
    journal.record([[Change(item_id="7", features=None, built="{}")]])
    journal.close()
    Path("shop.yaml").write_text(POLICY)
    assert "pins[1].item: the catalog has no item '7'" in " ".join(rf("policy", "check", "shop.yaml")[2].split())


def test_event_types_that_the_log_does_not_have_are_noted(rf: Any) -> None:
    Path("shop.yaml").write_text("""
lists: {best: {kind: popular, event_types: [ratting], weights: {view: 2}}}
placements: {home: {seen: [{event_types: [rating, purchase], days: 30}]}}
""")
    code, out, err = rf("policy", "check", "shop.yaml", "--json")
    assert (code, err) == (0, "")
    misspelt, *others = json.loads(out)["notes"]
    assert misspelt == (
        "lists.best.event_types is for the event type 'ratting', which no event has; did you mean 'rating'?"
    )
    assert [note.split(" is for")[0] for note in others] == [
        "lists.best.weights",
        "placements.home.seen[0].event_types",
    ]
    assert "'purchase', which no event has" in " ".join(rf("policy", "apply", "shop.yaml")[2].split())


def test_versions_are_shown_and_applied_again(rf: Any) -> None:
    Path("shop.yaml").write_text(POLICY)
    assert "shop.yaml is in order: placements home; checked against tiny-run-1" in " ".join(
        rf("policy", "check", "shop.yaml")[1].split()
    )
    assert "policy version 1 is in effect" in rf("policy", "apply", "shop.yaml", "--note", "a start")[1]
    assert "is in effect already" in rf("policy", "apply", "shop.yaml")[1]
    Path("none.yaml").write_text("placements: {}")
    assert "no placements, so no rules" in " ".join(rf("policy", "apply", "none.yaml")[1].split())
    assert "policy version 3 is in effect" in rf("policy", "apply", "--version", "1")[1]
    assert rf("policy", "show")[1] == POLICY
    shown = json.loads(rf("policy", "show", "2", "--json")[1])
    assert (shown["version"], shown["policy"]) == (2, {"lists": {}, "placements": {}, "default": None})
    assert [row["version"] for row in json.loads(rf("policy", "history", "--json")[1])] == [3, 2, 1]
    assert "placements" in json.loads(rf("policy", "show", "--schema")[1])["properties"]
    assert rf("policy", "apply")[0] == rf("policy", "show", "9")[0] == 2


def test_a_running_server_follows_a_policy_and_refuses_one_that_does_not_fit(
    pair: Settings,
    pair_registry: "Registry",
    start_server: Callable[..., Any],
    wait_until: Callable[..., None],
    logs: LogCapture,
) -> None:
    with start_server(pair, poll_seconds=0.02) as running:

        def told() -> GetDeploymentResponse:
            stub = DeploymentServiceStub(running.channel)  # type: ignore[no-untyped-call]
            response: GetDeploymentResponse = stub.GetDeployment(GetDeploymentRequest())
            return response

        def ask(placement: str = "", **fields: Any) -> Any:
            request = RetrieveRequest(user_id="17", k=8, exclude_seen=True, placement=placement, **fields)
            return running.stub.Retrieve(request)

        plain = ask()
        assert (plain.placement, plain.policy_version, plain.items[0].source) == ("", 0, "")
        with pytest.raises(grpc.RpcError) as refused:
            ask("home")
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == "placement: there is no 'home'; no policy is served that has placements"
        pair_registry.policies.apply(POLICY)
        wait_until(lambda: told().policy_version == 1)
        answer = ask("home", explain=True)
        assert (answer.placement, answer.policy_version) == ("home", 1)
        assert {item.source for item in answer.items} <= {"model", "pin"}
        reasons = {item.item_id: item.explanation.reasons for item in answer.items}
        assert any(reason.rule.name == "dramas" for each in reasons.values() for reason in each)
        assert all(reasons[item.item_id][0].HasField("rule") for item in answer.items if item.source == "pin")
        assert [item.item_id for item in ask().items] == [item.item_id for item in plain.items]  # none is the default
        with pytest.raises(grpc.RpcError) as refused:
            ask("hame")
        assert refused.value.details() == "placement: there is no 'hame'; known are home"

        pair_registry.policies.apply(POLICY.replace("genres=Drama", "genre=Drama"))
        wait_until(lambda: "item_attributes__genre" in told().refused)
        assert "policy version 2 does not fit bundle 'tiny-run-1'" in told().refused
        assert (told().policy_version, ask("home").policy_version) == (1, 1)

        pair_registry.policies.apply(POLICY + "default: home\n")
        wait_until(lambda: told().policy_version == 3)
        assert (ask().placement, told().refused) == ("home", "")
        pinned = [item.item_id for item in ask().items if item.source == "pin"]
        assert pinned
        journal = CatalogJournal.open(pair.platform_registry_url)
        journal.record([[Change(item_id=pinned[0], features=None, built="{}")]])
        journal.close()
        wait_until(lambda: pinned[0] not in [item.item_id for item in ask().items])
        ask()
        value = running.metrics.registry.get_sample_value
        assert value("rf_policy_skipped_rules_total", {"placement": "home"}) >= 2
        told_once = [e for e in logs.entries if e["event"] == "rule skipped" and f"pin of {pinned[0]}" in e["rule"]]
        assert len(told_once) == 1
