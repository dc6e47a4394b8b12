"""``RetrievalService``: parse a request, retrieve, encode the answer."""

from collections.abc import Callable
from typing import Any

from rf_protos.v1 import retrieval_pb2
from rf_protos.v1.retrieval_pb2 import RetrieveRequest, RetrieveResponse, StageTiming
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceServicer, add_RetrievalServiceServicer_to_server
from rf_serving.ranking.policy import name_of
from rf_serving.retrieval.query import Answer
from rf_serving.retrieval.retriever import Retriever
from rf_serving.server.call_context import annotate, annotate_stages
from rf_serving.server.limits import Limits
from rf_serving.server.requests import parse_request
from rf_serving.server.rpc import Service


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
