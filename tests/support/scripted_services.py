"""The services of the contract with scripted answers, for the tests of clients.

The prompt selects the answer. A test may replace a method by setting `on[name]`.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from eudai.v1 import (
    content_pb2,
    embedding_service_pb2 as embedding_pb,
    generation_service_pb2 as pb,
    model_service_pb2 as model_pb,
    server_service_pb2 as server_pb,
)
from google.protobuf import message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2

Context = Any
Answer = Callable[[Any, Context], Any]
MODELS = ("all-minilm:latest", "gemma3:270m")


class ScriptedServices:
    """All services; records the requests and the metadata that it receives.

    `on` has the answers that a test sets, by the name of the method; `ended` is set when a
    streaming call has ended.
    """

    def __init__(self) -> None:
        """Start with the default answers."""
        self.reset()

    def reset(self) -> None:
        """Return to the default answers, and forget what was received."""
        self.on: dict[str, Answer] = {}
        self.requests: list[Any] = []
        self.metadata: dict[str, Any] = {}
        self.ended = threading.Event()

    def add_to(self, server: grpc.Server) -> None:
        """Add all services to a server."""
        for file in (pb, embedding_pb, model_pb, server_pb, health_pb2):
            for service in file.DESCRIPTOR.services_by_name.values():
                handlers = {each.name: self._handler(each) for each in service.methods}
                generic = grpc.method_handlers_generic_handler(service.full_name, handlers)
                server.add_generic_rpc_handlers((generic,))

    def _handler(self, method: Any) -> Any:
        """The handler of one method, which is found by its descriptor."""
        arity = ["unary", "stream"]
        kind = f"{arity[method.client_streaming]}_{arity[method.server_streaming]}"
        handle = self._stream if method.server_streaming else self._answer
        return getattr(grpc, f"{kind}_rpc_method_handler")(
            functools.partial(handle, method.name),
            request_deserializer=message_factory.GetMessageClass(method.input_type).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def _answer(self, name: str, request: Any, context: Context) -> Any:
        if name == "UploadBlob":
            request = list(request)
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata())
        return self.on.get(name, DEFAULTS.get(name, _no_answer))(request, context)

    def _stream(self, name: str, request: Any, context: Context) -> Iterator[Any]:
        context.add_callback(self.ended.set)
        yield from self._answer(name, request, context)


def fail(
    context: Context,
    code: grpc.StatusCode,
    reason: str,
    message: str = "it failed",
    *details: Message,
    **metadata: str,
) -> Any:
    """End a call as the server does: with an ErrorInfo and further details."""
    info = error_details_pb2.ErrorInfo(domain="eudai", reason=reason, metadata=metadata)
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in (info, *details):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    context.set_trailing_metadata(
        [("grpc-status-details-bin", status.SerializeToString()), ("grpc-retry-pushback-ms", "-1")]
    )
    context.abort(code, message)


def endless(request: pb.GenerateRequest, context: Context) -> Iterator[pb.GenerateResponse]:
    """Text until the call is cancelled."""
    yield pb.GenerateResponse(started=pb.Started(generation_id="g1", model=request.model))
    while context.is_active():
        yield _text("n")


def failing(_request: Any, context: Context) -> Iterator[pb.GenerateResponse]:
    """A failure after some text."""
    yield _text("partial")
    fail(context, grpc.StatusCode.UNAVAILABLE, "BACKEND_STREAM_INTERRUPTED")


def endless_pull(_request: Any, context: Context) -> Iterator[Any]:
    """Progress until the call is cancelled."""
    progress = model_pb.TransferProgress(completed_bytes=1, total_bytes=2)
    while context.is_active():
        yield model_pb.PullModelResponse(progress=progress)


def _refuse(request: pb.GenerateRequest, context: Context) -> None:
    if request.model == "no-such-model":
        fail(
            context,
            grpc.StatusCode.NOT_FOUND,
            "MODEL_NOT_FOUND",
            "the model 'no-such-model' does not exist in Ollama",
        )
    if request.sampling.temperature > 5:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field="sampling.temperature", description="must be between 0 and 5"
        )
        bad_request = error_details_pb2.BadRequest(field_violations=[violation])
        code = grpc.StatusCode.INVALID_ARGUMENT
        fail(context, code, "INVALID_REQUEST", "the request is invalid", bad_request)


def _events(request: pb.GenerateRequest, context: Context) -> Iterator[pb.GenerateResponse]:
    _refuse(request, context)
    messages = request.conversation.messages
    users = [each for each in messages if each.role == content_pb2.ROLE_USER]
    prompt = request.prompt or (users[-1].parts[0].text if users else "")
    request_id = str(dict(context.invocation_metadata()).get("eudai-request-id", ""))
    started = pb.Started(model=request.model, seed=7, request_id=request_id)
    started.ollama_version = "0.32.15"
    yield pb.GenerateResponse(started=started)
    reason = pb.FINISH_REASON_STOP
    if prompt == "warn me":
        code = pb.GENERATION_WARNING_CODE_OPTION_IGNORED
        yield pb.GenerateResponse(warning=pb.GenerationWarning(code=code, message="ignored"))
    if messages and messages[-1].role == content_pb2.ROLE_TOOL and prompt != "call now":
        yield _text(f"The tool said {messages[-1].parts[0].text}")
    elif prompt.startswith("call "):
        name, _, arguments = prompt[5:].removesuffix(", please").partition(" ")
        call = content_pb2.ToolCall(id="call-1", name=name, arguments_json=arguments or "{}")
        yield pb.GenerateResponse(tool_call=call)
        reason = pb.FINISH_REASON_TOOL_CALLS
    else:
        for piece in ANSWERS.get(prompt, ("Hello", " there!")):
            yield _text(piece)
    usage = pb.Usage(input_tokens=2, output_tokens=3)
    timings = pb.Timings(total=Duration(nanos=250_000_000))
    yield pb.GenerateResponse(finished=pb.Finished(reason=reason, usage=usage, timings=timings))


ANSWERS = {
    "not json": ("An answer in words.",),
    "a point, as JSON": ('{"x": 1,', ' "y": 2}'),
}


def _text(text: str) -> pb.GenerateResponse:
    return pb.GenerateResponse(delta=pb.Delta(text=text))


def _once(request: pb.GenerateOnceRequest, context: Context) -> pb.GenerateOnceResponse:
    generation = pb.Generation(message=content_pb2.Message(role=content_pb2.ROLE_ASSISTANT))
    texts = []
    for event in _events(request.request, context):
        match event.WhichOneof("event"):
            case "started":
                generation.started.CopyFrom(event.started)
            case "delta":
                texts.append(event.delta.text)
            case "tool_call":
                generation.message.tool_calls.append(event.tool_call)
            case "warning":
                generation.warnings.append(event.warning)
            case "finished":
                generation.finished.CopyFrom(event.finished)
    if texts:
        generation.message.parts.add(text="".join(texts))
    return pb.GenerateOnceResponse(generation=generation)


def _vectors(request: embedding_pb.EmbedRequest, _context: Context) -> Iterator[Any]:
    for _ in request.inputs:
        yield embedding_pb.EmbedResponse(embeddings=[embedding_pb.Embedding(values=[1, 0])])


def _page(request: model_pb.ListModelsRequest, _: Context) -> model_pb.ListModelsResponse:
    index = int(request.page_token or 0)
    token = str(index + 1) if index + 1 < len(MODELS) else ""
    return model_pb.ListModelsResponse(models=[_named(MODELS[index])], next_page_token=token)


def _named(name: str) -> model_pb.Model:
    capabilities = [model_pb.CAPABILITY_COMPLETION]
    return model_pb.Model(
        name=name, family="gemma3", size_bytes=291_554_930, capabilities=capabilities,
        parameter_size="268M", quantization="Q8_0",
    )  # fmt: skip


def _model(request: model_pb.GetModelRequest, _: Context) -> model_pb.GetModelResponse:
    return model_pb.GetModelResponse(model=_named(request.model))


def _pull(request: model_pb.PullModelRequest, _: Context) -> Iterator[Any]:
    for done in (50, 100):
        progress = model_pb.TransferProgress(
            phase=model_pb.TRANSFER_PHASE_TRANSFERRING,
            completed_bytes=done,
            total_bytes=100,
            status="pulling",
        )
        yield model_pb.PullModelResponse(progress=progress)
    yield model_pb.PullModelResponse(completed=_named(request.model))


def _push(request: model_pb.PushModelRequest, _: Context) -> Iterator[Any]:
    yield model_pb.PushModelResponse(progress=model_pb.TransferProgress(status="pushing"))
    yield model_pb.PushModelResponse(completed=_named(request.model))


def _create(request: model_pb.CreateModelRequest, _: Context) -> Iterator[Any]:
    yield model_pb.CreateModelResponse(progress=model_pb.CreateProgress(status="creating"))
    yield model_pb.CreateModelResponse(completed=_named(request.model))


def _upload(requests: list[Any], _: Context) -> model_pb.UploadBlobResponse:
    return model_pb.UploadBlobResponse(size_bytes=sum(len(each.data) for each in requests))


def _pulls(_request: model_pb.ListPullsRequest, _: Context) -> model_pb.ListPullsResponse:
    progress = model_pb.TransferProgress(completed_bytes=1000, total_bytes=2_000_000_000)
    pull = model_pb.Pull(model="llama3.2:latest", progress=progress, detached=True, callers=1)
    return model_pb.ListPullsResponse(pulls=[pull])


def _copy(request: model_pb.CopyModelRequest, _: Context) -> model_pb.CopyModelResponse:
    return model_pb.CopyModelResponse(model=_named(request.destination))


def _load(request: model_pb.LoadModelRequest, _: Context) -> model_pb.LoadModelResponse:
    return model_pb.LoadModelResponse(model=_named(request.model))


def _no_answer(_request: Any, context: Context) -> Any:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "not scripted")


def _info(_request: Any, _: Context) -> server_pb.GetServerInfoResponse:
    return server_pb.GetServerInfoResponse(
        version="0.1.0", ollama_version="0.32.15", max_running=1, max_queued=4
    )


def _check(request: Any, _: Context) -> Any:
    is_unknown = request.service == "model/unknown"
    status = health_pb2.HealthCheckResponse.ServingStatus
    return health_pb2.HealthCheckResponse(
        status=status.NOT_SERVING if is_unknown else status.SERVING
    )


DEFAULTS: dict[str, Answer] = {
    "Generate": _events,
    "GenerateOnce": _once,
    "Embed": _vectors,
    "ListModels": _page,
    "GetModel": _model,
    "PullModel": _pull,
    "PushModel": _push,
    "ListPulls": _pulls,
    "CancelPull": lambda _request, _context: model_pb.CancelPullResponse(),
    "CreateModel": _create,
    "UploadBlob": _upload,
    "CopyModel": _copy,
    "DeleteModel": lambda _request, _context: model_pb.DeleteModelResponse(),
    "LoadModel": _load,
    "UnloadModel": lambda _request, _context: model_pb.UnloadModelResponse(),
    "GetServerInfo": _info,
    "Check": _check,
}
