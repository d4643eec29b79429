"""ModelService: lists and describes models, and changes them if the operator allows it."""

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from eudai.v1 import model_service_pb2 as pb
from google.protobuf.message import Message

from eudai_server.core.access import Scope
from eudai_server.core.errors import ModelNotFoundError, ServiceError
from eudai_server.core.model_name import ModelName
from eudai_server.core.models import Model, Store, Transfer
from eudai_server.rpc.transport.call import Call
from eudai_server.rpc.wire.model_request import (
    creation_from,
    load_request_violations,
    names_from,
    page_from,
    require_registry,
)
from eudai_server.rpc.wire.model_response import (
    get_model_response_from,
    model_from,
    progress_from,
    pull_from,
)
from eudai_server.rpc.wire.options import load_from
from eudai_server.rpc.wire.references import References
from eudai_server.rpc.wire.values import duration_from
from eudai_server.rpc.wire.violations import digest_violations, require


class ModelService:
    """Implements ModelService with a store."""

    def __init__(self, store: Store, *, load_options: bool, registries: Sequence[str]) -> None:
        """`registries` are the hosts whose models may be pulled, pushed, created and copied to."""
        self._store = store
        self._load_options = load_options
        self._registries = registries

    async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        """A page of the models that the caller may use."""
        allow = call.principal.models.allow
        allowed = [model for model in await self._store.list() if allow(model.name.lower())]
        models, token = page_from(allowed, request)
        return pb.ListModelsResponse(models=map(model_from, models), next_page_token=token)

    async def get_model(self, request: pb.GetModelRequest, call: Call) -> pb.GetModelResponse:
        """One model. Only those who may administer models learn how it is prompted."""
        [name] = names_from(model=request.model)
        call.principal.require_model(name)
        description = await self._store.describe(name, verbose=request.verbose)
        if Scope.MODELS_ADMIN not in call.principal.scopes:
            description = replace(description, template="", system="", modelfile="", messages=())
        return get_model_response_from(description)

    async def pull_model(self, request: pb.PullModelRequest, call: Call) -> None:
        """Stream the progress of a pull, then the model."""
        [name] = names_from(model=request.model)
        call.principal.require_changeable(name)
        insecure = require_registry(name, self._registries).startswith("http://")
        transfers = self._store.pull(name, insecure=insecure, detach=request.detach)
        await _stream(
            call, transfers, lambda transfer: pb.PullModelResponse(progress=progress_from(transfer))
        )
        await call.write(pb.PullModelResponse(completed=await self._model(name)))

    async def list_pulls(self, _request: pb.ListPullsRequest, call: Call) -> pb.ListPullsResponse:
        """The running pulls of models that the caller may use."""
        allow = call.principal.models.allow
        pulls = [pull for pull in self._store.list_pulls() if allow(pull.model.lower())]
        return pb.ListPullsResponse(pulls=map(pull_from, pulls))

    async def cancel_pull(self, request: pb.CancelPullRequest, call: Call) -> pb.CancelPullResponse:
        """Cancel a running pull for all callers."""
        [name] = names_from(model=request.model)
        call.principal.require_changeable(name)
        await self._store.cancel_pull(name)
        return pb.CancelPullResponse()

    async def push_model(self, request: pb.PushModelRequest, call: Call) -> None:
        """Stream the progress of a push, then the model."""
        [name] = names_from(model=request.model)
        call.principal.require_model(name)
        insecure = require_registry(name, self._registries).startswith("http://")
        transfers = self._store.push(name, insecure=insecure)
        await _stream(
            call, transfers, lambda transfer: pb.PushModelResponse(progress=progress_from(transfer))
        )
        await call.write(pb.PushModelResponse(completed=await self._model(name)))

    async def create_model(self, request: pb.CreateModelRequest, call: Call) -> None:
        """Stream the statuses of a creation, then the model."""
        creation = creation_from(request)
        call.principal.require_changeable(creation.model)
        if creation.base_model:
            call.principal.require_model(creation.base_model)
        require_registry(creation.model, self._registries)
        if creation.base_model:
            # The backend pulls a base model that does not exist, and this one could be deleted
            # before the backend reads it.
            require_registry(creation.base_model, self._registries)

        def response(transfer: Transfer) -> pb.CreateModelResponse:
            return pb.CreateModelResponse(progress=pb.CreateProgress(status=transfer.status))

        await _stream(call, self._store.create(creation), response)
        await call.write(pb.CreateModelResponse(completed=await self._model(creation.model)))

    async def upload_blob(
        self, requests: AsyncIterable[pb.UploadBlobRequest], _call: Call
    ) -> pb.UploadBlobResponse:
        """Store a file, in constant memory. If it exists, answer after its first piece."""
        pieces = aiter(requests)
        first = await anext(pieces, pb.UploadBlobRequest())
        require(digest_violations("digest", first.digest))
        if await self._store.has_blob(first.digest):
            return pb.UploadBlobResponse(existed=True)

        async def chunks() -> AsyncGenerator[bytes, None]:
            yield first.data
            async for piece in pieces:
                yield piece.data

        size_bytes = await self._store.upload(first.digest, chunks())
        return pb.UploadBlobResponse(size_bytes=size_bytes)

    async def copy_model(self, request: pb.CopyModelRequest, call: Call) -> pb.CopyModelResponse:
        """Copy a model to another name."""
        source, destination = names_from(source=request.source, destination=request.destination)
        call.principal.require_model(source)
        call.principal.require_changeable(destination)
        require_registry(destination, self._registries)
        await self._store.copy(source, destination)
        return pb.CopyModelResponse(model=await self._model(destination))

    async def delete_model(
        self, request: pb.DeleteModelRequest, call: Call
    ) -> pb.DeleteModelResponse:
        """Delete a model."""
        [name] = names_from(model=request.model)
        try:
            call.principal.require_model(name)
            await self._store.delete(name)
        except ModelNotFoundError:
            if not request.allow_missing:
                raise
        return pb.DeleteModelResponse()

    async def load_model(self, request: pb.LoadModelRequest, call: Call) -> pb.LoadModelResponse:
        """Load a model."""
        references = References()
        require(load_request_violations(request, references))
        name = references.get("model")
        call.principal.require_model(name)
        begin_ns = call.elapsed_ns
        await self._store.load(name, load_from(request.load, allowed=self._load_options))
        duration = duration_from(call.elapsed_ns - begin_ns)
        return pb.LoadModelResponse(model=await self._model(name), duration=duration)

    async def unload_model(
        self, request: pb.UnloadModelRequest, call: Call
    ) -> pb.UnloadModelResponse:
        """Unload a model."""
        [name] = names_from(model=request.model)
        call.principal.require_model(name)
        await self._store.unload(name)
        return pb.UnloadModelResponse()

    async def _model(self, name: ModelName) -> pb.Model:
        """The model after an operation.

        A failure here must not make the client repeat the operation.
        """
        try:
            described: Model = (await self._store.describe(name, verbose=False)).model
        except ServiceError as error:
            error.may_have_run = True
            raise
        return model_from(described)


async def _stream(
    call: Call, transfers: AsyncGenerator[Transfer, None], response: Callable[[Transfer], Message]
) -> None:
    async with aclosing(transfers):
        async for transfer in transfers:
            await call.write(response(transfer))
