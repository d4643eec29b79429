"""Converts models to the messages of ModelService. No I/O."""

from eudai.v1 import model_service_pb2 as pb

from eudai_server.core.models import Capability, Description, Model, Pull, Transfer, TransferPhase
from eudai_server.rpc.wire.content import message_from
from eudai_server.rpc.wire.values import EnumCodec

CAPABILITIES = EnumCodec(pb.Capability, Capability)
TRANSFER_PHASES = EnumCodec(pb.TransferPhase, TransferPhase)


def model_from(model: Model) -> pb.Model:
    """Convert a model."""
    message = pb.Model(
        name=model.name,
        digest=model.digest,
        size_bytes=model.size_bytes,
        capabilities=sorted(map(CAPABILITIES.encode, model.capabilities)),
        family=model.family,
        parameter_size=model.parameter_size,
        quantization=model.quantization,
        max_context_length=model.max_context_length,
    )
    if model.update_time:
        message.update_time.FromDatetime(model.update_time)
    if model.loaded:
        loaded = model.loaded
        message.loaded.MergeFrom(
            pb.LoadedState(
                context_length=loaded.context_length,
                size_bytes=loaded.size_bytes,
                gpu_bytes=loaded.gpu_bytes,
            )
        )
        if loaded.expire_time:
            message.loaded.expire_time.FromDatetime(loaded.expire_time)
    return message


def get_model_response_from(description: Description) -> pb.GetModelResponse:
    """Convert a model's description."""
    return pb.GetModelResponse(
        model=model_from(description.model),
        template=description.template,
        system=description.system,
        licenses=description.licenses,
        modelfile=description.modelfile,
        parameters=description.parameters,
        metadata_json=description.metadata_json,
        messages=map(message_from, description.messages),
        embedding_length=description.embedding_length,
        renderer=description.renderer,
        parser=description.parser,
    )


def pull_from(pull: Pull) -> pb.Pull:
    """Convert a running pull."""
    return pb.Pull(
        model=pull.model,
        progress=progress_from(pull.progress) if pull.progress else None,
        detached=pull.detached,
        callers=pull.callers,
    )


def progress_from(transfer: Transfer) -> pb.TransferProgress:
    """Convert the progress of a pull or a push."""
    return pb.TransferProgress(
        phase=TRANSFER_PHASES.encode(transfer.phase),
        completed_bytes=transfer.completed_bytes,
        total_bytes=transfer.total_bytes,
        status=transfer.status,
    )
