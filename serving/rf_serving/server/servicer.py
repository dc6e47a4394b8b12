"""The RPC: parse, retrieve, encode."""

from typing import Any

from rf_protos.v1.retrieval_pb2 import RetrieveRequest, RetrieveResponse, ScoredItem, StageTiming
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceServicer
from rf_serving.retrieval.retriever import Answer, Retriever
from rf_serving.server.interceptor import note
from rf_serving.server.requests import parse_request


class RetrievalServicer(RetrievalServiceServicer):
    """``retrievalformer.v1.RetrievalService``; errors are translated by the interceptor."""

    def __init__(self, retriever: Retriever, max_k: int) -> None:
        self._retriever, self._max_k = retriever, max_k
        self._ids = [str(item) for item in retriever.bundle.item_ids]
        self._bundle, self._spec_hash = retriever.bundle.name, retriever.bundle.manifest.spec_hash

    async def Retrieve(self, request: RetrieveRequest, context: Any) -> RetrieveResponse:  # noqa: N802 (gRPC's name)
        """Return the k best items."""
        query = parse_request(request, self._retriever.bundle.spec, self._max_k)
        answer = await self._retriever.retrieve(query)
        note(subject=request.WhichOneof("subject"), k=query.k, cold=answer.cold, items=len(answer.rows))
        return self._encode(answer, request.return_history)

    def _encode(self, answer: Answer, with_history: bool) -> RetrieveResponse:
        ids = self._ids
        return RetrieveResponse(
            items=[
                ScoredItem(item_id=ids[row], score=score)
                for row, score in zip(answer.rows.tolist(), answer.scores.tolist(), strict=True)
            ],
            bundle=self._bundle,
            spec_hash=self._spec_hash,
            cold=answer.cold,
            timings=[StageTiming(stage=stage, milliseconds=s * 1000) for stage, s in answer.seconds.items()],
            history=[ids[row] for row in answer.history.tolist()] if with_history else [],
        )
