"""The methods of the blocking client that manage models."""

from collections.abc import Iterator, Sequence
from typing import Any, Unpack

from eudai.connection import TRANSFER_TIMEOUT_S
from eudai.requests import CallOptions, LoadFields, capabilities_from, load_options
from eudai.sync.caller import Caller
from eudai.sync.transfer import Transfer
from eudai.uploads import FilePath, digest_of, upload_requests
from eudai.v1 import model_service_pb2 as pb, model_service_pb2_grpc as rpc


class ModelCalls(Caller):
    """Calls of ModelService. Results are messages of the contract."""

    @property
    def _models(self) -> rpc.ModelServiceStub:
        return rpc.ModelServiceStub(self._channel)

    def models(
        self,
        *,
        loaded_only: bool = False,
        capabilities: Sequence[str] = (),
        **options: Unpack[CallOptions],
    ) -> Iterator[pb.Model]:
        """The models that Ollama has, sorted by name. Pages are fetched as needed.

        `capabilities` are names such as "tools" or "vision"; the models have all of them.

        >>> [model.name for model in client.models()]
        ['all-minilm:latest', 'gemma3:270m']
        """
        request = pb.ListModelsRequest(
            loaded_only=loaded_only, capabilities=capabilities_from(capabilities)
        )
        while True:
            page = self._call(self._models.ListModels, request, options)
            yield from page.models
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def model(
        self, model: str, *, verbose: bool = False, **options: Unpack[CallOptions]
    ) -> pb.GetModelResponse:
        """The description of a model: its template, system message, parameters and more.

        >>> client.model("gemma3:270m").model.family
        'gemma3'
        """
        request = pb.GetModelRequest(model=model, verbose=verbose)
        return self._call(self._models.GetModel, request, options)

    def pull(
        self, model: str, *, detach: bool = False, **options: Unpack[CallOptions]
    ) -> Transfer[pb.TransferProgress]:
        """Pull a model from its registry. With `detach`, the pull survives the end of the call.

        >>> [progress.status for progress in client.pull("gemma3:270m")]
        ['pulling', 'pulling']
        """
        request = pb.PullModelRequest(model=model, detach=detach)
        return self._transfer(self._models.PullModel, request, options)

    def pulls(self, **options: Unpack[CallOptions]) -> list[pb.Pull]:
        """The running pulls, including those that have been detached.

        >>> [pull.model for pull in client.pulls()]
        ['llama3.2:latest']
        """
        return list(self._call(self._models.ListPulls, pb.ListPullsRequest(), options).pulls)

    def cancel_pull(self, model: str, **options: Unpack[CallOptions]) -> None:
        """Cancel a running pull for all callers.

        >>> client.cancel_pull("llama3.2")
        """
        self._call(self._models.CancelPull, pb.CancelPullRequest(model=model), options)

    def push(self, model: str, **options: Unpack[CallOptions]) -> Transfer[pb.TransferProgress]:
        """Push a model to its registry.

        >>> client.push("gemma3:270m").wait().name
        'gemma3:270m'
        """
        return self._transfer(self._models.PushModel, pb.PushModelRequest(model=model), options)

    def create(
        self, request: pb.CreateModelRequest, **options: Unpack[CallOptions]
    ) -> Transfer[pb.CreateProgress]:
        """Create a model from another model or from uploaded files.

        >>> from eudai.v1.model_service_pb2 import CreateModelRequest
        >>> request = CreateModelRequest(model="terse", base_model="gemma3:270m")
        >>> client.create(request).wait().name
        'terse'
        """
        return self._transfer(self._models.CreateModel, request, options)

    def upload(self, path: FilePath, **options: Unpack[CallOptions]) -> str:
        """Upload a file for `create`; returns its digest.

        >>> client.upload(weights_path)[:13]
        'sha256:9f86d0'
        """
        digest = digest_of(path)
        requests = upload_requests(path, digest)
        self._call(self._models.UploadBlob, requests, options, timeout_s=TRANSFER_TIMEOUT_S)
        return digest

    def copy(self, source: str, destination: str, **options: Unpack[CallOptions]) -> pb.Model:
        """Copy a model to another name.

        >>> client.copy("gemma3:270m", "mine").name
        'mine'
        """
        request = pb.CopyModelRequest(source=source, destination=destination)
        return self._call(self._models.CopyModel, request, options).model

    def delete(
        self, model: str, *, allow_missing: bool = False, **options: Unpack[CallOptions]
    ) -> None:
        """Delete a model. With `allow_missing`, a model that does not exist is no error.

        >>> client.delete("mine", allow_missing=True)
        """
        request = pb.DeleteModelRequest(model=model, allow_missing=allow_missing)
        self._call(self._models.DeleteModel, request, options)

    def load(
        self, model: str, fields: LoadFields | None = None, **options: Unpack[CallOptions]
    ) -> pb.Model:
        """Load a model into memory, so that the next generation does not wait for it.

        >>> client.load("gemma3:270m", {"keep_alive_s": 600}).name
        'gemma3:270m'
        """
        request = pb.LoadModelRequest(model=model, load=load_options(fields or {}))
        return self._call(self._models.LoadModel, request, options).model

    def unload(self, model: str, **options: Unpack[CallOptions]) -> None:
        """Unload a model from memory.

        >>> client.unload("gemma3:270m")
        """
        self._call(self._models.UnloadModel, pb.UnloadModelRequest(model=model), options)

    def _transfer(self, method: Any, request: Any, options: CallOptions) -> Transfer[Any]:
        arguments = self._connection.call_arguments(options, timeout_s=TRANSFER_TIMEOUT_S)
        return Transfer(lambda: method(request, **arguments), self._connection.address)
