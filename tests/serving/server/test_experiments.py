"""From a running server to a verdict: a split, events that name their answers, and what `rf experiment` says and does."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from rf_platform.data.event_log import Event, EventLog
from rf_platform.data.event_log.event import ANSWER
from rf_platform.settings import Settings, get_settings
from rf_protos.v1 import feedback_pb2
from rf_protos.v1.deployment_pb2 import GetDeploymentRequest
from rf_protos.v1.deployment_pb2_grpc import DeploymentServiceStub
from rf_protos.v1.features_pb2 import FeatureValue
from rf_protos.v1.feedback_pb2_grpc import FeedbackServiceStub
from rf_protos.v1.retrieval_pb2 import RetrieveRequest

if TYPE_CHECKING:
    from rf_platform.registry import Registry

FIRST, SECOND = "tiny-run-1", "other-run-1"
USERS = [str(user) for user in range(1000, 1400)]
WINDOW_HOURS = 0.001
EXPLORED = """
placements:
  home: {}
  wide:
    exploration: {share: 0.2, among: ["item_attributes__release_year>=1900"]}
"""


@pytest.fixture
def rf(
    pair: Settings, monkeypatch: pytest.MonkeyPatch, run_command: Callable[..., tuple[int, str, str]]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run an ``rf`` command in the workspace; returns exit code, standard output and standard error."""
    monkeypatch.setenv("RF_HOME", str(pair.home))
    monkeypatch.setenv("RF_FEATURE_REPO", str(pair.feature_repo))
    monkeypatch.setenv("COLUMNS", "200")
    get_settings.cache_clear()
    yield run_command
    get_settings.cache_clear()


def percent_of(running: Any) -> float:
    """Percentage of the users that the challenger of a server has."""
    stub = DeploymentServiceStub(running.channel)  # type: ignore[no-untyped-call]
    told = stub.GetDeployment(GetDeploymentRequest())
    return float(told.split_percent) if told.HasField("challenger") else 0.0


def serve_users(running: Any, rates: dict[str, float], seed: int = 0) -> dict[str, str]:
    """Answer all users, and record what some of them do with the first item, by the rate of their bundle; bundle by user."""
    random, bundles, events = np.random.default_rng(seed), {}, []
    for user in USERS:
        metadata = [("x-request-id", f"answer-{user}")]
        reply = running.stub.Retrieve(RetrieveRequest(user_id=user, k=2), metadata=metadata)
        bundles[user] = reply.bundle
        if random.random() < rates[reply.bundle]:
            event = feedback_pb2.Event(
                event_id=f"event-{user}",
                user_id=user,
                item_id=reply.items[0].item_id,
                timestamp_us=int(time.time() * 1e6),
                values={"event_type": FeatureValue(string_value="rating")},
                request_id=f"answer-{user}",
            )
            events.append(event)
    stub = FeedbackServiceStub(running.channel)  # type: ignore[no-untyped-call]
    statuses = stub.RecordEvents(feedback_pb2.RecordEventsRequest(events=events)).statuses
    assert {each.outcome for each in statuses} == {feedback_pb2.EventStatus.RECORDED}
    return bundles


@pytest.mark.parametrize("better", [True, False], ids=["better", "harm"])
def test_from_answers_and_events_to_a_verdict(
    pair: Settings, start_server: Callable[..., Any], wait_until: Callable[..., None], rf: Any, better: bool
) -> None:
    rates = {FIRST: 0.15, SECOND: 0.6} if better else {FIRST: 0.6, SECOND: 0.15}
    window = ["--window", str(WINDOW_HOURS)]
    with start_server(pair, poll_seconds=0.02) as running:
        recorder = running.parts.recorder
        recorder._options = replace(recorder._options, seconds=0.2)
        # The share of the log is 0: answers are logged because a challenger has users.
        code, out, err = rf("experiment", "start", SECOND, "--outcome", "rating", "--percent", "50", *window, "--json")
        assert code == 0, err
        name = json.loads(out)["name"]
        wait_until(lambda: percent_of(running) == 50)
        bundles = serve_users(running, rates)
        shares = [sum(bundle == each for bundle in bundles.values()) for each in (FIRST, SECOND)]
        assert min(shares) > 150

        def status() -> dict[str, Any]:
            code, out, err = rf("experiment", "status", "--json")
            assert code == 0, err
            found: dict[str, Any] = json.loads(out)
            return found

        wait_until(lambda: sum(status()["complete"]) == len(USERS), 60)
        found = status()
        assert found["exposed"] == found["complete"] == shares
        assert found["means"] == pytest.approx([rates[FIRST], rates[SECOND]], abs=0.1)
        assert found["ratio"]["p_value"] > 0.001
        assert found["verdict"]["finding"] == ("better" if better else "harm")
        assert SECOND in found["verdict"]["sentence"]

        # Each event is credited to the answer that it names.
        report = json.loads(rf("experiment", "report", *window, "--json")[1])
        assert report["credited"] == report["events"] >= 100
        by_bundle = {row["bundle"]: row["outcomes"]["rating"] / row["answers"] for row in report["rows"]}
        assert by_bundle == pytest.approx(rates, abs=0.1)

        code, out, _ = rf("experiment", "check", "--json")
        checked = json.loads(out)
        if better:
            assert (code, checked["stopped"]) == (0, False)
            assert percent_of(running) == 50
            assert rf("promote", SECOND)[0] == 0
            wait_until(lambda: running.stub.Retrieve(RetrieveRequest(user_id=USERS[0], k=2)).bundle == SECOND)
        else:
            # Harm is taken back from the running server, and the verdict stays in the registry.
            assert (code, checked["stopped"]) == (3, True)
            wait_until(lambda: percent_of(running) == 0)
            answered = {running.stub.Retrieve(RetrieveRequest(user_id=user, k=2)).bundle for user in USERS[:40]}
            assert answered == {FIRST}
            listed = json.loads(rf("experiment", "list", "--json")[1])
            assert [(each["name"], each["finding"]) for each in listed] == [(name, "harm")]
            assert json.loads(rf("experiment", "check", "--json")[1]) == {"running": None, "stopped": False}


def test_an_estimate_ranks_bundles_as_their_world_does(
    pair: Settings,
    pair_registry: "Registry",
    start_server: Callable[..., Any],
    wait_until: Callable[..., None],
    rf: Any,
) -> None:
    """Users buy what the challenger would show them, and view what the served bundle does: better by one, worse by the other."""
    people = [str(user) for user in range(1, 31)]
    asked: dict[str, Any] = {"k": 5, "exclude_seen": True}
    estimate = ("experiment", "estimate", SECOND, "--json", "--outcome")

    def shown(running: Any) -> dict[str, set[str]]:
        replies = {user: running.stub.Retrieve(RetrieveRequest(user_id=user, **asked)) for user in people}
        return {user: {item.item_id for item in reply.items} for user, reply in replies.items()}

    pair_registry.promote(SECOND)
    with start_server(pair) as running:
        liked = {"purchase": shown(running)}
    pair_registry.promote(FIRST)
    pair_registry.policies.apply(EXPLORED)
    random, events = np.random.default_rng(0), []
    with start_server(pair.model_copy(update={"log_share": 1.0})) as running:
        liked["view"] = shown(running)
        for number in range(1200):
            user, answer = people[number % len(people)], f"answer-{number}"
            placement = "wide" if number >= 30 else "home"
            request = RetrieveRequest(user_id=user, placement=placement, **asked)
            reply = running.stub.Retrieve(request, metadata=[("x-request-id", answer)])
            for item in reply.items:
                for kind, by_user in liked.items():
                    if random.random() < (0.6 if item.item_id in by_user[user] else 0.03):
                        values = {"event_type": kind, ANSWER: answer}
                        event_id, now = f"{answer}-{item.item_id}-{kind}", int(time.time() * 1e6)
                        events.append(
                            Event(
                                event_id=event_id,
                                user_id=user,
                                item_id=item.item_id,
                                timestamp_us=now,
                                values=values,
                            )
                        )
    log = EventLog.open(pair)
    log.append([events])
    log.close()
    assert any(liked["purchase"][user] != liked["view"][user] for user in people)

    def estimated(kind: str) -> dict[str, Any]:
        code, out, err = rf(*estimate, kind)
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)
        assert found["placement"] == "wide"
        return found

    by_purchases, by_views = estimated("purchase"), estimated("view")
    assert by_purchases["difference"]["low"] > 0
    assert by_purchases["sentence"].endswith("better.")
    assert by_views["difference"]["high"] < 0
    assert by_views["sentence"].endswith("worse.")
    # The truth: of five places, so many have an item that the user likes.
    for found, kind in ((by_purchases, "purchase"), (by_views, "view")):
        for part, slates in (("challenger", liked["purchase"]), ("served", liked["view"])):
            hits = np.mean([len(slates[user] & liked[kind][user]) for user in people])
            truth = 0.6 * hits + 0.03 * (5 - hits)
            assert found[part]["dr"]["low"] - 0.3 <= truth <= found[part]["dr"]["high"] + 0.3, (kind, part, truth)

    # Answers without draws say nothing of what was not shown.
    code, out, _ = rf(*estimate, "purchase", "--placement", "home")
    refused = json.loads(out)
    assert (code, refused["drawn"], refused["challenger"]) == (3, 0, None)
    assert "no answer of tiny-run-1 with items drawn at random" in refused["refused"]
