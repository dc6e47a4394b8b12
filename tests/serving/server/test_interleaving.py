"""Two bundles fill one list in turns."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from rf_platform.policies import Placement
from rf_platform.settings import Settings
from rf_protos.v1.deployment_pb2 import GetDeploymentRequest
from rf_protos.v1.deployment_pb2_grpc import DeploymentServiceStub
from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, RetrieveResponse, Session
from rf_serving.policies import CompiledPlacement
from rf_serving.retrieval.interleaving import may_interleave

if TYPE_CHECKING:
    from rf_platform.registry import Registry

FIRST, SECOND = "tiny-run-1", "other-run-1"


def test_users_of_a_split_may_have_lists_of_both_bundles(
    pair: Settings, pair_registry: "Registry", start_server: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    def asked(running: Any, interleave: bool, **fields: Any) -> RetrieveResponse:
        reply: RetrieveResponse = running.stub.Retrieve(RetrieveRequest(k=10, interleave=interleave, **fields))
        return reply

    subjects = [{"user_id": str(user)} for user in range(1, 9)]
    subjects.append({"session": Session(history=[Interaction(item_id="3")])})  # type: ignore[dict-item]
    with start_server(pair, poll_seconds=0.02) as running:
        stub = DeploymentServiceStub(running.channel)  # type: ignore[no-untyped-call]
        alone = [asked(running, True, **subject) for subject in subjects]
        assert all(not item.bundle for reply in alone for item in reply.items)  # there is no split
        pair_registry.traffic.split(SECOND, 1)
        wait_until(lambda: stub.GetDeployment(GetDeploymentRequest()).split_percent == 1)
        both = [asked(running, True, **subject) for subject in subjects]
        firsts = []
        for subject, reply, plain in zip(subjects, both, alone, strict=True):
            bundles = [item.bundle for item in reply.items]
            assert [{*bundles[at : at + 2]} for at in range(0, 10, 2)] == [{FIRST, SECOND}] * 5
            assert len({item.item_id for item in reply.items}) == 10
            # What the served bundle gives are its best items that the other had not given.
            given = {item.item_id for item in reply.items if item.bundle == FIRST}
            rest = [
                item.item_id for item in plain.items if item.item_id not in {i.item_id for i in reply.items} - given
            ]
            assert given == {*rest[:5]}
            scores = {item.item_id: item.score for item in plain.items}
            assert all(
                item.score == pytest.approx(scores[item.item_id]) for item in reply.items if item.bundle == FIRST
            )
            again = asked(running, True, **subject)
            assert [(i.item_id, i.bundle) for i in again.items] == [(i.item_id, i.bundle) for i in reply.items]
            firsts.append(bundles[0])
        assert {*firsts} == {FIRST, SECOND}
        explained = running.stub.Retrieve(RetrieveRequest(user_id="1", k=3, interleave=True, explain=True))
        assert all(not item.bundle for item in explained.items)
        assert all(item.HasField("explanation") for item in explained.items)
        plain = asked(running, False, **subjects[0])
        assert all(not item.bundle for item in plain.items)


@pytest.mark.parametrize(
    ("rules", "may"),
    [
        ({}, True),
        ({"eligibility": ["genres=War"], "diversity": {"lambda": 0.5}}, True),
        ({"caps": [{"feature": "genres", "most": 2}]}, False),
        ({"pins": [{"item": "1", "place": 1}]}, False),
        ({"exploration": {"share": 0.1}}, False),
    ],
)
def test_rules_of_one_list_do_not_hold_for_two(rules: dict[str, Any], may: bool) -> None:
    class Rules:
        placement = Placement.model_validate(rules)

    compiled: CompiledPlacement = Rules()  # type: ignore[assignment]
    assert may_interleave(compiled) is may
    assert may_interleave(None)
