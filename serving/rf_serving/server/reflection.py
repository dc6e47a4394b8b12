"""Server reflection, as clients know it: ``grpc.reflection.v1``, and ``v1alpha`` which has the same messages."""

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_reflection.v1alpha import reflection, reflection_pb2

_ALPHA, _STABLE = "grpc.reflection.v1alpha", "grpc.reflection.v1"
SERVICES = (f"{_STABLE}.ServerReflection", reflection.SERVICE_NAME)
"""Full names of the two services."""


def add_reflection(names: Iterable[str], server: Any) -> None:
    """Add server reflection: clients can list services and messages, also those of reflection itself.

    Args:
        names: full names of the other services.
        server: an asynchronous gRPC server.
    """
    _describe_stable()
    servicer = reflection.aio.ReflectionServicer((*names, *SERVICES))  # type: ignore[attr-defined]  # not in the stubs
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for service in SERVICES:
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": handler}),)
        )


def _describe_stable() -> None:
    """Put the stable service's descriptor where clients that ask for it find it; grpcio-reflection has the other one only."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileContainingSymbol(SERVICES[0])
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(file)
        stable = text_format.MessageToString(file).replace(_ALPHA, _STABLE)
        file = text_format.Parse(stable, descriptor_pb2.FileDescriptorProto())
        file.name = "grpc/reflection/v1/reflection.proto"
        pool.Add(file)
