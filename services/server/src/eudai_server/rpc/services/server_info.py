"""ServerService: reports versions, limits and load."""

from collections.abc import Callable
from dataclasses import dataclass

from eudai.v1 import server_service_pb2 as pb

from eudai_server import __version__
from eudai_server.core.admission import Admission
from eudai_server.rpc.transport.call import Call
from eudai_server.rpc.wire.parsing import MESSAGE_BYTES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The operator's settings that callers may know."""

    admin: bool
    load_options: bool


class ServerService:
    """Implements ServerService."""

    def __init__(
        self, admission: Admission, limits: Limits, ollama_version: Callable[[], str]
    ) -> None:
        """`ollama_version` returns an empty text while Ollama cannot be reached."""
        self._admission = admission
        self._limits = limits
        self._ollama_version = ollama_version

    async def get_server_info(
        self, _request: pb.GetServerInfoRequest, _call: Call
    ) -> pb.GetServerInfoResponse:
        """Report versions, limits and load."""
        return pb.GetServerInfoResponse(
            version=__version__,
            ollama_version=self._ollama_version(),
            max_message_bytes=MESSAGE_BYTES_MAX,
            max_running=self._admission.max_running,
            max_queued=self._admission.max_queued,
            running=self._admission.running,
            queued=self._admission.queued,
            admin_enabled=self._limits.admin,
            load_options_enabled=self._limits.load_options,
        )
