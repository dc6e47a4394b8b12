"""``retrievalformer.v1.FeedbackService``: check, record, answer."""

from typing import Any

from rf_protos.v1 import feedback_pb2
from rf_protos.v1.feedback_pb2 import EventStatus, RecordEventsRequest, RecordEventsResponse
from rf_protos.v1.feedback_pb2_grpc import FeedbackServiceServicer, add_FeedbackServiceServicer_to_server
from rf_serving.events import EventIntake
from rf_serving.index.vector_index import NO_ROW
from rf_serving.retrieval.retriever import Retriever
from rf_serving.server.interceptor import annotate
from rf_serving.server.options import Limits
from rf_serving.server.rpc import Service


class FeedbackServicer(FeedbackServiceServicer):
    """Records events; errors are translated by the interceptor."""

    def __init__(self, intake: EventIntake, retriever: Retriever, limits: Limits) -> None:
        self._intake, self._retriever, self._limits = intake, retriever, limits

    async def RecordEvents(self, request: RecordEventsRequest, context: Any) -> RecordEventsResponse:  # noqa: N802
        """Record interactions."""
        self._limits.check_batch("events", len(request.events))
        engine = self._retriever.engine
        catalog, encoder = engine.catalog.snapshot, engine.bundle.encoder
        numeric = {str(f.of): encoder.numeric[f.name] for f in encoder.spec.inputs("context") if f.kind == "numeric"}
        statuses = await self._intake.record(request.events, lambda item: catalog.row_of(item) != NO_ROW, numeric)
        annotate(
            events=len(statuses),
            duplicates=sum(status.outcome == EventStatus.DUPLICATE for status in statuses),
            rejected=sum(status.outcome == EventStatus.REJECTED for status in statuses),
        )
        return RecordEventsResponse(statuses=statuses)


def feedback_service(intake: EventIntake, retriever: Retriever, limits: Limits) -> Service:
    """Return the service."""
    return Service(
        descriptor=feedback_pb2.DESCRIPTOR.services_by_name["FeedbackService"],
        servicer=FeedbackServicer(intake, retriever, limits),
        add=add_FeedbackServiceServicer_to_server,
    )
