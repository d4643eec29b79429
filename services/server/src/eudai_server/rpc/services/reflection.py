"""Serves grpc.reflection v1 and v1alpha.

The library implements only v1alpha; the two differ only in name.
"""

from collections.abc import AsyncIterable, Collection

from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha.reflection import aio

from eudai_server.rpc.transport.call import Call

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"


class ReflectionService:
    """Implements ServerReflectionInfo."""

    def __init__(self, services: Collection[str]) -> None:
        """`services` are the full names to list."""
        _describe_v1()
        self._servicer = aio.ReflectionServicer(services)

    async def info(self, requests: AsyncIterable[pb.ServerReflectionRequest], call: Call) -> None:
        """Answer each request until the client closes its stream."""
        async for response in self._servicer.ServerReflectionInfo(requests, None):
            await call.write(response)


def _describe_v1() -> None:
    """Register the descriptor of v1, so that clients can resolve the listed name."""
    file = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = "grpc.reflection.v1"
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(".v1alpha.", ".v1.")
            method.output_type = method.output_type.replace(".v1alpha.", ".v1.")
    descriptor_pool.Default().Add(file)
