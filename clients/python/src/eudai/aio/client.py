"""The client for asyncio."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, Unpack, overload

from grpc_health.v1 import health_pb2, health_pb2_grpc

from eudai.aio.chat import AsyncChat
from eudai.aio.models import AsyncModelCalls
from eudai.aio.stream import AsyncStream
from eudai.embeddings import EmbedBatches
from eudai.formats import parsed
from eudai.requests import (
    CallOptions,
    EmbedOptions,
    GenerateOptions,
    Prompt,
    embed_request,
    generate_request,
)
from eudai.results import Result, result_from
from eudai.streaming import StreamState
from eudai.v1 import (
    content_pb2,
    embedding_service_pb2_grpc,
    generation_service_pb2 as pb,
    generation_service_pb2_grpc,
    server_service_pb2,
    server_service_pb2_grpc,
)

T = TypeVar("T")


class AsyncClient(AsyncModelCalls):
    """A client of an eudai server for asyncio. `Client` has the same methods with examples.

    Create it within a running event loop. Leaving its block closes it.

    >>> async with eudai.AsyncClient(address) as client:
    ...     async with client.generate("gemma3:270m", "hi") as stream:
    ...         async for text in stream.text:
    ...             print(text, end="|")
    Hello| there!|
    """

    def generate(
        self, model: str, prompt: Prompt, **options: Unpack[GenerateOptions]
    ) -> AsyncStream:
        """Generate text, and stream it. `prompt` is a text, or the messages of a conversation."""
        return self._stream(model, prompt, options)

    async def generate_once(
        self, model: str, prompt: Prompt, **options: Unpack[GenerateOptions]
    ) -> Result:
        """Generate text, and return the whole result."""
        request = pb.GenerateOnceRequest(request=generate_request(model, prompt, options))
        stub = generation_service_pb2_grpc.GenerationServiceStub(self._channel)
        response = await self._call(stub.GenerateOnce, request, options, model=model)
        return result_from(response.generation)

    async def parse(
        self, model: str, prompt: Prompt, kind: type[T], **options: Unpack[GenerateOptions]
    ) -> T:
        """Generate an object: of a pydantic model, or of a protobuf message class.

        Raises ParseError, which has the text, if the answer is not of that type.
        """
        once: GenerateOptions = {**options, "format": kind}
        return parsed(await self.generate_once(model, prompt, **once), kind)

    def chat(
        self,
        model: str,
        *,
        messages: Sequence[content_pb2.Message] = (),
        **options: Unpack[GenerateOptions],
    ) -> AsyncChat:
        """Start a conversation. `options` apply to all its generations."""
        return AsyncChat(self._stream, model, messages, options)

    @overload
    async def embed(
        self, model: str, texts: Sequence[str], *,
        as_numpy: Literal[False] = ..., **options: Unpack[EmbedOptions],
    ) -> list[list[float]]: ...  # fmt: skip

    @overload
    async def embed(
        self, model: str, texts: Sequence[str], *,
        as_numpy: Literal[True], **options: Unpack[EmbedOptions],
    ) -> Any: ...  # fmt: skip

    async def embed(
        self,
        model: str,
        texts: Sequence[str],
        *,
        as_numpy: bool = False,
        **options: Unpack[EmbedOptions],
    ) -> Any:
        """The vectors of texts, in their order. With `as_numpy`, a numpy array of float32."""
        timeout_s = self._connection.timeout_of(options)
        batches = EmbedBatches(embed_request(model, texts, options), timeout_s)
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(self._channel)
        for request in batches:
            remaining: EmbedOptions = {**options, "timeout_s": batches.remaining_s}
            with batches.numbering():
                batches.add(await self._collect(stub.Embed, request, remaining))
        return batches.vectors(as_numpy=as_numpy)

    async def server_info(
        self, **options: Unpack[CallOptions]
    ) -> server_service_pb2.GetServerInfoResponse:
        """The versions, limits and load of the server."""
        stub = server_service_pb2_grpc.ServerServiceStub(self._channel)
        return await self._call(
            stub.GetServerInfo, server_service_pb2.GetServerInfoRequest(), options
        )

    async def health(self, name: str = "", **options: Unpack[CallOptions]) -> bool:
        """Whether the server is ready. `name` may be "liveness", a service or "model/…"."""
        stub = health_pb2_grpc.HealthStub(self._channel)
        response = await self._call(
            stub.Check, health_pb2.HealthCheckRequest(service=name), options
        )
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    def _stream(
        self,
        model: str,
        prompt: Prompt,
        options: GenerateOptions,
        on_finished: Callable[[Result], None] | None = None,
    ) -> AsyncStream:
        """A stream that has not started. `on_finished` is called with the complete result."""
        request = generate_request(model, prompt, options)
        arguments = self._connection.call_arguments(options, model)
        stub = generation_service_pb2_grpc.GenerationServiceStub(self._channel)
        return AsyncStream(
            lambda: stub.Generate(request, **arguments),
            StreamState(self._connection.address, on_finished),
        )
