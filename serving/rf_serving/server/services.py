"""The services of the server that need nothing but a retriever."""

from collections.abc import Callable

from rf_protos.v1 import retrieval_pb2
from rf_protos.v1.retrieval_pb2_grpc import add_RetrievalServiceServicer_to_server
from rf_serving.retrieval.retriever import Retriever
from rf_serving.server.limits import Limits
from rf_serving.server.retrieval_servicer import RetrievalServicer
from rf_serving.server.rpc import Service


def retrieval_service(
    retriever: Retriever, limits: Limits, observe: Callable[[str], None] = lambda bundle: None
) -> Service:
    """Return ``RetrievalService``; ``observe`` is told the bundle of every answer."""
    return Service(
        descriptor=retrieval_pb2.DESCRIPTOR.services_by_name["RetrievalService"],
        servicer=RetrievalServicer(retriever, limits, observe),
        add=add_RetrievalServiceServicer_to_server,
    )
