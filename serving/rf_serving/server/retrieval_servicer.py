"""``RetrievalService``: parse a request, retrieve, encode the answer."""

from collections.abc import Callable
from typing import Any

from rf_platform.errors import UsageError
from rf_platform.features.spec import FeatureSpec
from rf_protos.v1 import retrieval_pb2
from rf_protos.v1.retrieval_pb2 import Rerank, RetrieveRequest, RetrieveResponse, StageTiming
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceServicer, add_RetrievalServiceServicer_to_server
from rf_serving.ranking.policy import name_of
from rf_serving.retrieval.query import Answer, Query
from rf_serving.retrieval.retriever import Retriever
from rf_serving.server.call_context import annotate, annotate_stages
from rf_serving.server.options import Limits
from rf_serving.server.rpc import Service
from rf_serving.wire.ids import parse_id


class RetrievalServicer(RetrievalServiceServicer):
    """``retrievalformer.v1.RetrievalService``; errors are translated by the interceptor."""

    def __init__(
        self, retriever: Retriever, limits: Limits, observe: Callable[[str], None] = lambda bundle: None
    ) -> None:
        self._retriever, self._limits, self._observe = retriever, limits, observe

    async def Retrieve(self, request: RetrieveRequest, context: Any) -> RetrieveResponse:  # noqa: N802 (gRPC's name)
        """Return the k best items."""
        query = parse_request(request, self._retriever.bundle.spec, self._limits)
        answer = await self._retriever.retrieve(query)
        annotate(
            subject=request.WhichOneof("subject"),
            k=query.k,
            bundle=answer.bundle,
            cold=answer.cold,
            items=len(answer.items),
            rerank=name_of(answer.rerank),
            **({"degraded": True} if answer.degraded else {}),
        )
        annotate_stages(answer.seconds, answer.begins)
        self._observe(answer.bundle)
        return encode_answer(answer)


def retrieval_service(
    retriever: Retriever, limits: Limits, observe: Callable[[str], None] = lambda bundle: None
) -> Service:
    """Return ``RetrievalService``; ``observe`` is told the bundle of every answer."""
    return Service(
        descriptor=retrieval_pb2.DESCRIPTOR.services_by_name["RetrievalService"],
        servicer=RetrievalServicer(retriever, limits, observe),
        add=add_RetrievalServiceServicer_to_server,
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
    )
    # In place: a list of messages would be copied, which takes three times as long.
    add = response.items.add
    for item, score in zip(answer.items, answer.scores, strict=True):
        added = add()
        added.item_id, added.score = item, score
    for place, explanation in enumerate(answer.explanations):
        response.items[place].explanation.CopyFrom(explanation)
    return response


def parse_request(request: RetrieveRequest, spec: FeatureSpec, limits: Limits) -> Query:
    """Return the query of a request; a session's own fields are checked when it is read.

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
    )
