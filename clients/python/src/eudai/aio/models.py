"""The methods of the asyncio client that manage models. `Client` documents them with examples."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Unpack

from eudai.aio.caller import AsyncCaller
from eudai.aio.transfer import AsyncTransfer
from eudai.connection import TRANSFER_TIMEOUT_S
from eudai.requests import CallOptions, LoadFields, capabilities_from, load_options
from eudai.uploads import FilePath, digest_of, upload_requests
from eudai.v1 import model_service_pb2 as pb, model_service_pb2_grpc as rpc


class AsyncModelCalls(AsyncCaller):
    """Calls of ModelService. Results are messages of the contract."""

    @property
    def _models(self) -> "rpc.ModelServiceAsyncStub":
        return rpc.ModelServiceStub(self._channel)

    async def models(
        self,
        *,
        loaded_only: bool = False,
        capabilities: Sequence[str] = (),
        **options: Unpack[CallOptions],
    ) -> AsyncIterator[pb.Model]:
        """The models that Ollama has, sorted by name. Pages are fetched as needed.

        `capabilities` are names such as "tools" or "vision"; the models have all of them.
        """
        request = pb.ListModelsRequest(
            loaded_only=loaded_only, capabilities=capabilities_from(capabilities)
        )
        while True:
            page = await self._call(self._models.ListModels, request, options)
            for model in page.models:
                yield model
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def model(
        self, model: str, *, verbose: bool = False, **options: Unpack[CallOptions]
    ) -> pb.GetModelResponse:
        """The description of a model: its template, system message, parameters and more."""
        request = pb.GetModelRequest(model=model, verbose=verbose)
        return await self._call(self._models.GetModel, request, options)

    def pull(
        self, model: str, *, detach: bool = False, **options: Unpack[CallOptions]
    ) -> AsyncTransfer[pb.TransferProgress]:
        """Pull a model from its registry. With `detach`, the pull survives the end of the call."""
        request = pb.PullModelRequest(model=model, detach=detach)
        return self._transfer(self._models.PullModel, request, options)

    async def pulls(self, **options: Unpack[CallOptions]) -> list[pb.Pull]:
        """The running pulls, including those that have been detached."""
        return list(
            (await self._call(self._models.ListPulls, pb.ListPullsRequest(), options)).pulls
        )

    async def cancel_pull(self, model: str, **options: Unpack[CallOptions]) -> None:
        """Cancel a running pull for all callers."""
        await self._call(self._models.CancelPull, pb.CancelPullRequest(model=model), options)

    def push(
        self, model: str, **options: Unpack[CallOptions]
    ) -> AsyncTransfer[pb.TransferProgress]:
        """Push a model to its registry."""
        return self._transfer(self._models.PushModel, pb.PushModelRequest(model=model), options)

    def create(
        self, request: pb.CreateModelRequest, **options: Unpack[CallOptions]
    ) -> AsyncTransfer[pb.CreateProgress]:
        """Create a model from another model or from uploaded files."""
        return self._transfer(self._models.CreateModel, request, options)

    async def upload(self, path: FilePath, **options: Unpack[CallOptions]) -> str:
        """Upload a file for `create`; returns its digest."""
        digest = await asyncio.to_thread(digest_of, path)
        requests = _in_threads(upload_requests(path, digest))
        await self._call(self._models.UploadBlob, requests, options, timeout_s=TRANSFER_TIMEOUT_S)
        return digest

    async def copy(self, source: str, destination: str, **options: Unpack[CallOptions]) -> pb.Model:
        """Copy a model to another name."""
        request = pb.CopyModelRequest(source=source, destination=destination)
        return (await self._call(self._models.CopyModel, request, options)).model

    async def delete(
        self, model: str, *, allow_missing: bool = False, **options: Unpack[CallOptions]
    ) -> None:
        """Delete a model. With `allow_missing`, a model that does not exist is no error."""
        request = pb.DeleteModelRequest(model=model, allow_missing=allow_missing)
        await self._call(self._models.DeleteModel, request, options)

    async def load(
        self, model: str, fields: LoadFields | None = None, **options: Unpack[CallOptions]
    ) -> pb.Model:
        """Load a model into memory, so that the next generation does not wait for it."""
        request = pb.LoadModelRequest(model=model, load=load_options(fields or {}))
        return (await self._call(self._models.LoadModel, request, options)).model

    async def unload(self, model: str, **options: Unpack[CallOptions]) -> None:
        """Unload a model from memory."""
        await self._call(self._models.UnloadModel, pb.UnloadModelRequest(model=model), options)

    def _transfer(self, method: Any, request: Any, options: CallOptions) -> AsyncTransfer[Any]:
        arguments = self._connection.call_arguments(options, timeout_s=TRANSFER_TIMEOUT_S)
        return AsyncTransfer(lambda: method(request, **arguments), self._connection.address)


async def _in_threads(requests: Iterator[pb.UploadBlobRequest]) -> AsyncIterator[Any]:
    """The requests, each made in a thread because it reads a file."""
    while request := await asyncio.to_thread(next, requests, None):
        yield request
