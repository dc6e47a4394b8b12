"""``RetrievalService``: parse a request, retrieve, encode the answer."""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any

from rf_platform.errors import UnavailableError, UsageError
from rf_platform.features.spec import FeatureSpec
from rf_platform.policies import SeenRule
from rf_protos.v1 import retrieval_pb2
from rf_protos.v1.retrieval_pb2 import (
    DEGRADED_INDEX_SILENT,
    DEGRADED_STORE_SILENT,
    Rerank,
    RetrieveRequest,
    RetrieveResponse,
    SimilarItemsRequest,
    SimilarItemsResponse,
    StageTiming,
)
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceServicer, add_RetrievalServiceServicer_to_server
from rf_serving.ranking.policy import name_of
from rf_serving.retrieval.query import Answer, Query
from rf_serving.retrieval.quick_ranker import QuickAnswer
from rf_serving.retrieval.retriever import Retriever
from rf_serving.retrieval.routing import Route, Routing
from rf_serving.server.call_context import annotate, annotate_stages, current_request_id
from rf_serving.server.options import Limits
from rf_serving.server.quick_calls import Done, QuickReply
from rf_serving.server.rpc import Service
from rf_serving.server.similar_items import SimilarItemsMethod
from rf_serving.serving_log import Answered, Recorder
from rf_serving.wire.ids import parse_id

MOST_CANDIDATES = 1000
"""Most items of a caller's own list."""
Observe = Callable[[str, str], None]
"""Receives the bundle and the path of an answer."""


class RetrievalServicer(RetrievalServiceServicer):
    """``retrievalformer.v1.RetrievalService``; errors are translated by the interceptor."""

    def __init__(
        self,
        retriever: Retriever,
        limits: Limits,
        observe: Observe = lambda bundle, path: None,
        recorder: Recorder | None = None,
    ) -> None:
        self._retriever, self._limits, self._observe, self._recorder = retriever, limits, observe, recorder
        self._degrading: set[asyncio.Task[None]] = set()
        self._similar = SimilarItemsMethod(retriever, limits, observe)

    async def Retrieve(self, request: RetrieveRequest, context: Any) -> RetrieveResponse:  # noqa: N802 (gRPC's name)
        """Return the k best items."""
        routing = self._retriever.routing
        query = parse_request(request, self._retriever.bundle.spec, self._limits, logged=self._logged(routing))
        answer = await self._retriever.retrieve(query)
        annotate(**_notes(request, answer, len(answer.items)))
        annotate_stages(answer.seconds, answer.begins)
        path = "degraded" if answer.degraded in (DEGRADED_STORE_SILENT, DEGRADED_INDEX_SILENT) else "full"
        self._observe(answer.bundle, path)
        if query.logged:
            # The features of a list of two bundles are those that the served one has read.
            route = routing.active if answer.teams else routing.route_of(query)
            self._record(current_request_id(), path, routing, route, query, answer)
        return encode_answer(answer)

    async def SimilarItems(self, request: SimilarItemsRequest, context: Any) -> SimilarItemsResponse:  # noqa: N802
        """Return the k items that are most like some others."""
        return await self._similar.answer(request)

    def take(self, message: bytes, done: Done, gone: Callable[[], bool], request_id: str = "") -> bool:
        """Answer a quick request without a coroutine; see :class:`QuickMethod`."""
        request, routing = RetrieveRequest.FromString(message), self._retriever.routing
        query = parse_request(request, self._retriever.bundle.spec, self._limits, logged=self._logged(routing))

        def settled(result: QuickAnswer | BaseException) -> None:
            if isinstance(result, UnavailableError) and route is not None:
                task = asyncio.get_running_loop().create_task(
                    self._degraded(request_id, routing, route, query, request, done)
                )
                self._degrading.add(task)
                task.add_done_callback(self._degrading.discard)
                return
            try:
                reply = self._reply(request, result) if isinstance(result, QuickAnswer) else result
                if query.logged and isinstance(result, QuickAnswer) and route is not None:
                    self._record(request_id, "quick", routing, route, query, result)
            except Exception as error:  # a bug; the others of the batch are answered
                reply = error
            done(reply)

        route = self._retriever.take(query, settled, gone)
        return route is not None

    def _logged(self, routing: Routing) -> bool:
        recorder = self._recorder
        if recorder is None or (routing.challenger is None and not recorder.share):
            return False
        return recorder.wants(routing)

    def _record(
        self, request_id: str, path: str, routing: Routing, route: Route, query: Query, answer: Answer | QuickAnswer
    ) -> None:
        """Hand an answer to the serving log."""
        assert self._recorder is not None
        self._recorder.offer(Answered.of(request_id, path, routing, route, query, answer))

    def _reply(self, request: RetrieveRequest, answer: QuickAnswer) -> QuickReply:
        self._observe(answer.bundle, "quick")
        return QuickReply(answer.message(), _notes(request, answer, len(answer.rows)), answer.seconds, answer.begins)

    async def _degraded(
        self, request_id: str, routing: Routing, route: Route, query: Query, request: RetrieveRequest, done: Done
    ) -> None:
        """Answer a request without the features of its user, which cannot be read."""
        try:
            answer = await self._retriever.degraded(route, query)
        except BaseException as error:
            done(error)
            if not isinstance(error, Exception):
                raise
            return
        self._observe(answer.bundle, "degraded")
        if query.logged:
            self._record(request_id, "degraded", routing, route, query, answer)
        message = encode_answer(answer).SerializeToString()
        done(QuickReply(message, _notes(request, answer, len(answer.items)), answer.seconds, answer.begins))


def _notes(request: RetrieveRequest, answer: Answer | QuickAnswer, items: int) -> dict[str, Any]:
    """Return what the log line says of an answer."""
    notes = {
        "subject": request.WhichOneof("subject"),
        "k": request.k,
        "bundle": answer.bundle,
        "cold": answer.cold,
        "items": items,
        "rerank": name_of(answer.rerank),
    }
    if answer.unknown:
        notes["unknown_items"] = len(answer.unknown)
    if isinstance(answer, Answer) and answer.ruled is not None:
        notes |= {"placement": answer.placement, "policy": answer.policy_version}
    if isinstance(answer, Answer) and answer.teams:
        notes["interleaved"] = True
    return {**notes, "degraded": True} if answer.degraded else notes


def retrieval_service(
    retriever: Retriever,
    limits: Limits,
    observe: Observe = lambda bundle, path: None,
    recorder: Recorder | None = None,
) -> Service:
    """Return ``RetrievalService``; ``observe`` is told the bundle of every answer and its path, ``recorder`` keeps the log."""
    servicer = RetrievalServicer(retriever, limits, observe, recorder)
    return Service(
        descriptor=retrieval_pb2.DESCRIPTOR.services_by_name["RetrievalService"],
        servicer=servicer,
        add=add_RetrievalServiceServicer_to_server,
        quick={"Retrieve": servicer.take},
    )


def encode_answer(answer: Answer) -> RetrieveResponse:
    """Return the reply that carries an answer."""
    response = RetrieveResponse(
        bundle=answer.bundle,
        spec_hash=answer.spec_hash,
        cold=answer.cold,
        timings=[StageTiming(stage=stage, milliseconds=s * 1000) for stage, s in answer.seconds.items()],
        history=answer.history,
        degraded=bool(answer.degraded),
        degraded_reason=answer.degraded,
        plan=answer.plan,
        catalog_sequence=answer.sequence,
        rerank=answer.rerank,
        unknown_items=answer.unknown,
    )
    # In place: a list of messages would be copied, which takes three times as long.
    add = response.items.add
    for item, score in zip(answer.items, answer.scores, strict=True):
        added = add()
        added.item_id, added.score = item, score
    if answer.ruled is not None:
        response.placement, response.policy_version = answer.placement, answer.policy_version
        response.yielded_caps.extend(answer.ruled.yielded)
        rules = zip(response.items, answer.ruled.sources, answer.ruled.propensities, strict=True)
        for added, source, propensity in rules:
            added.source, added.propensity = source, propensity
    for added, bundle in zip(response.items, answer.teams, strict=False):
        added.bundle = bundle
    for place, explanation in enumerate(answer.explanations):
        response.items[place].explanation.CopyFrom(explanation)
    return response


def parse_request(request: RetrieveRequest, spec: FeatureSpec, limits: Limits, *, logged: bool = False) -> Query:
    """Return the query of a request; a session's own fields are checked when it is read.

    Args:
        request: the message.
        spec: says what type ids have.
        limits: of what may be asked for.
        logged: whether the answer goes into the serving log.

    Raises:
        UsageError: no subject is given, or ``k``, ``rerank`` or ``user_id`` is wrong.
    """
    subject = request.WhichOneof("subject")
    if subject is None:
        raise UsageError("subject: set user_id, or session for a visitor without an id")
    if not 1 <= request.k <= limits.max_k:
        raise UsageError(f"k: {request.k} is not possible; ask for 1 to {limits.max_k} items")
    if request.rerank not in Rerank.values():
        raise UsageError(f"rerank: {request.rerank} is none of {', '.join(Rerank.keys())}")
    if len(request.candidate_items) > MOST_CANDIDATES:
        raise UsageError(f"candidate_items: {len(request.candidate_items)} are given; the limit is {MOST_CANDIDATES}")
    if subject == "session" and len(request.session.history) > limits.max_session:
        raise UsageError(
            f"session.history: {len(request.session.history)} interactions are given, and a session may have "
            f"{limits.max_session} (--max-session); send the latest ones"
        )
    return Query(
        subject=request.session if subject == "session" else parse_id(request.user_id, spec.user.id_type, "user_id"),
        k=request.k,
        exclude_seen=request.exclude_seen,
        filter=request.filter if request.HasField("filter") else None,
        rerank=request.rerank,
        history=request.return_history,
        explain=request.explain,
        placement=request.placement,
        candidates=tuple(
            parse_id(text, spec.item.id_type, f"candidate_items[{place}]")
            for place, text in enumerate(request.candidate_items)
        ),
        category=request.category,
        goals=dict(request.goals),
        interleave=request.interleave,
        seen=tuple(_seen_rule(i, each) for i, each in enumerate(request.seen)),
        logged=logged,
    )


def _seen_rule(number: int, given: retrieval_pb2.SeenRule) -> SeenRule:
    if not 0 <= given.days < inf:
        raise UsageError(f"seen[{number}].days: {given.days:g} is not possible; give a number above 0, or 0 for ever")
    return SeenRule(event_types=tuple(given.event_types), days=given.days or None)
