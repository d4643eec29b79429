"""ServerService: versions, limits and load."""

from collections.abc import Callable
from dataclasses import dataclass

from eudai.v1 import server_service_pb2 as pb

from eudai_server import __version__
from eudai_server.rpc.call import Call, Calls
from eudai_server.rpc.decode import parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an operator has set and a caller may know."""

    message_bytes_max: int
    admin: bool
    load_options: bool


class ServerService:
    """Describes this server."""

    def __init__(self, calls: Calls, limits: Limits, ollama_version: Callable[[], str]) -> None:
        """`ollama_version` is empty while Ollama cannot be reached."""
        self._calls = calls
        self._limits = limits
        self._ollama_version = ollama_version

    async def get_server_info(self, data: bytes, _call: Call) -> bytes:
        """Versions, limits and load. Nothing limits how many generations run, so max_running and max_queued are 0."""
        parse(pb.GetServerInfoRequest, data)
        answer = pb.GetServerInfoResponse(
            version=__version__,
            ollama_version=self._ollama_version(),
            max_message_bytes=self._limits.message_bytes_max,
            running=self._calls.running("eudai.v1.GenerationService/"),
            admin_enabled=self._limits.admin,
            load_options_enabled=self._limits.load_options,
        )
        return answer.SerializeToString()
