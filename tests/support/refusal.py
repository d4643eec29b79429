"""A failed call with its code, reason and unpacked details."""

from typing import Any

import grpc
import pytest
from eudai.v1 import error_pb2
from google.rpc import error_details_pb2, status_pb2
from serving import Server, collect


class Refusal:
    """A failed call with unpacked details."""

    def __init__(self, failure: grpc.aio.AioRpcError) -> None:
        self.code = failure.code()
        self.message = failure.details() or ""
        self.trailers = dict(failure.trailing_metadata() or ())
        self.raw = bytes(self.trailers.get("grpc-status-details-bin", b""))
        self.details: dict[str, Any] = {}
        for packed in status_pb2.Status.FromString(self.raw).details:
            name = packed.TypeName()
            kind = (
                error_pb2.GenerationFailure
                if name.startswith("eudai")
                else getattr(error_details_pb2, name.rpartition(".")[2])
            )
            detail: Any = kind()
            packed.Unpack(detail)
            self.details[name.rpartition(".")[2]] = detail

    @property
    def reason(self) -> str:
        """The reason in ErrorInfo."""
        info = self.details["ErrorInfo"]
        assert info.domain == "eudai"
        return str(info.reason)

    @property
    def fields(self) -> list[str]:
        """The fields of all violations."""
        return [violation.field for violation in self.details["BadRequest"].field_violations]


async def refusal(server: Server, **fields: Any) -> Refusal:
    """Make a generation that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await collect(server, **fields)
    return Refusal(failure.value)


async def refused(call: Any) -> Refusal:
    """Make a call that must fail, streaming or not."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await drained(call)
    return Refusal(failure.value)


async def drained(call: Any) -> None:
    """Wait for the end of a call, streaming or not."""
    if not hasattr(call, "__aiter__"):
        await call
        return
    async for _ in call:
        pass
