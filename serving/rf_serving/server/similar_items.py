"""``RetrievalService.SimilarItems``: parse a request, find what is similar, encode the answer."""

from collections.abc import Callable

from rf_platform.errors import UsageError
from rf_platform.features.spec import IdType
from rf_protos.v1.retrieval_pb2 import SimilarItemsRequest, SimilarItemsResponse, StageTiming
from rf_serving.retrieval.retriever import Retriever
from rf_serving.retrieval.similar_ranker import SimilarAnswer, SimilarQuery
from rf_serving.server.call_context import annotate, annotate_stages
from rf_serving.server.options import Limits
from rf_serving.wire.ids import parse_id

MOST_ASKED = 100
"""Most items that one request asks about."""


class SimilarItemsMethod:
    """Answers what :class:`~rf_serving.server.retrieval_servicer.RetrievalServicer` is asked for similar items."""

    def __init__(self, retriever: Retriever, limits: Limits, observe: Callable[[str, str], None]) -> None:
        """Take what answers.

        Args:
            retriever: answers.
            limits: of requests.
            observe: is told the bundle of every answer, and the path ``similar``.
        """
        self._retriever, self._limits, self._observe = retriever, limits, observe

    async def answer(self, request: SimilarItemsRequest) -> SimilarItemsResponse:
        """Answer a request.

        Raises:
            UsageError: a field of the request is wrong.
        """
        query = parse_similar(request, self._retriever.bundle.spec.item.id_type, self._limits)
        answer = await self._retriever.similar(query)
        annotate(asked=len(query.items), k=query.k, bundle=answer.bundle, items=len(answer.items))
        annotate_stages(answer.seconds, answer.begins)
        self._observe(answer.bundle, "similar")
        return encode_similar(answer)


def parse_similar(request: SimilarItemsRequest, id_type: IdType, limits: Limits) -> SimilarQuery:
    """Return the query of a request; its features and its filter are checked when they are read.

    Raises:
        UsageError: items and features are both given or neither is, or ``k`` or an id is wrong.
    """
    if bool(request.item_ids) == bool(request.features):
        raise UsageError(
            "item_ids: give the items that others are to be like, or else the features of one that is in no catalog"
        )
    if not 1 <= request.k <= limits.max_k:
        raise UsageError(f"k: {request.k} is not possible; ask for 1 to {limits.max_k} items")
    if not 0 <= request.co_occurrence_share <= 1:
        raise UsageError(
            f"co_occurrence_share: {request.co_occurrence_share} is not possible; give a share from 0 to 1"
        )
    if len(request.item_ids) > MOST_ASKED:
        raise UsageError(f"item_ids: {len(request.item_ids)} are given; the limit is {MOST_ASKED}")
    named = (parse_id(text, id_type, f"item_ids[{place}]") for place, text in enumerate(request.item_ids))
    return SimilarQuery(
        k=request.k,
        items=tuple(dict.fromkeys(named)),
        features=request.features or None,
        filter=request.filter if request.HasField("filter") else None,
        share=request.co_occurrence_share if request.HasField("co_occurrence_share") else None,
        placement=request.placement,
    )


def encode_similar(answer: SimilarAnswer) -> SimilarItemsResponse:
    """Return the reply that carries an answer."""
    response = SimilarItemsResponse(
        bundle=answer.bundle,
        spec_hash=answer.spec_hash,
        absent=answer.absent,
        timings=[StageTiming(stage=stage, milliseconds=s * 1000) for stage, s in answer.seconds.items()],
        plan=answer.plan,
        catalog_sequence=answer.sequence,
        co_occurrence_share=answer.share,
    )
    for item, score, cosine, together in zip(
        answer.items, answer.scores, answer.cosines, answer.co_occurrences, strict=True
    ):
        response.items.add(item_id=item, score=score, cosine=cosine, co_occurrence=together)
    if answer.rules is not None and answer.ruled is not None:
        response.placement, response.policy_version = answer.rules.name, answer.rules.version
        response.yielded_caps.extend(answer.ruled.yielded)
        for place, added in enumerate(response.items):
            added.source, added.propensity = answer.ruled.sources[place], answer.ruled.propensities[place]
    return response
