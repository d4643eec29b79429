"""A configuration goes in, a running server comes out. Puts the parts together, and takes them apart in reverse order."""

import asyncio
import logging
from collections.abc import Coroutine

import grpc

from eudai_server.admission import Admission
from eudai_server.config import Config, ConfigError
from eudai_server.errors import Reason
from eudai_server.ollama.backend import OllamaBackend
from eudai_server.ollama.catalog import Catalog
from eudai_server.ollama.client import Client
from eudai_server.ollama.embedder import OllamaEmbedder
from eudai_server.ollama.loading import Loader
from eudai_server.ollama.probe import Probe
from eudai_server.ollama.store import OllamaStore
from eudai_server.readiness import Readiness
from eudai_server.rpc.call import Calls
from eudai_server.rpc.server_service import Limits
from eudai_server.rpc.services import Parts, register, registrations

# A conversation with a few photographs or a minute of sound in it.
MESSAGE_BYTES_MAX = 32 << 20
KEEPALIVE_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 10_000
METADATA_BYTES_MAX = 16 << 10
# After a drain has cut what still ran: time for the statuses to go out.
CUT_TIMEOUT_S = 2.0

OPTIONS = (
    ("grpc.so_reuseport", 0),  # by default a second server takes half the connections of a port in silence
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),  # without it a frozen client is held for a minute more
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_idle_ms", 15 * 60_000),
    ("grpc.max_concurrent_streams", 1024),
    ("grpc.max_allowed_incoming_connections", 4096),
    ("grpc.server_handshake_timeout_ms", 5_000),  # two minutes by default: an open door for slow clients
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", 2 * METADATA_BYTES_MAX),
)

DRAINING = (Reason.DRAINING, "the server is shutting down; another one can take the call")

log = logging.getLogger(__name__)


class App:
    """One server, from the port it listens on to the Ollama it calls."""

    def __init__(self, config: Config) -> None:
        """Opens nothing yet. Wants a running event loop."""
        self._config = config
        self._readiness = Readiness()
        self._client = Client(config.ollama_base_url)
        catalog = Catalog()
        self._probe = Probe(self._client, catalog, self._readiness)
        self._loader = Loader(self._client, catalog, self._probe, config.first_event_timeout_s)
        limits = {"first_event_timeout_s": config.first_event_timeout_s, "event_timeout_s": config.event_timeout_s}
        self._calls = Calls()
        self._server = grpc.aio.server(options=OPTIONS)
        self._store = OllamaStore(
            self._client,
            self._probe,
            self._loader,
            load_timeout_s=config.first_event_timeout_s,
            event_timeout_s=config.first_event_timeout_s,
        )
        parts = Parts(
            backend=OllamaBackend(self._client, catalog, self._probe, self._loader, **limits),
            embedder=OllamaEmbedder(self._client, catalog, self._probe, self._loader, timeout_s=config.first_event_timeout_s),
            store=self._store,
            registries=config.registries,
            readiness=self._readiness,
            admission=Admission(config.max_running, config.max_queued),
            limits=Limits(message_bytes_max=MESSAGE_BYTES_MAX, admin=config.admin, load_options=config.load_options),
            ollama_version=lambda: catalog.version if self._readiness.backend_up else "",
        )
        register(self._server, self._calls, registrations(parts, reflection=config.reflection))
        self._probing: asyncio.Task[None] | None = None
        self._hurried = asyncio.Event()

    async def start(self) -> int:
        """Listen; returns the port. Raises ConfigError where the address cannot be had."""
        try:
            port = self._server.add_insecure_port(self._config.listen)
        except RuntimeError as error:
            await self._client.close()
            raise ConfigError("EUDAI_LISTEN", f"{self._config.listen} cannot be listened on; another program may have the port") from error
        self._probing = asyncio.create_task(self._probe.run(), name="probe")
        await self._server.start()
        log.info("listening", extra={"fields": {"listen": self._config.listen, "port": port, "ollama": self._config.ollama_base_url}})
        return port

    async def drain(self) -> None:
        """Say NOT_SERVING, let balancers notice, let what runs finish, cut what does not, and close. Once."""
        if self._readiness.draining:
            return
        self._readiness.drain()
        log.info("draining", extra={"fields": {"lame_duck_s": self._config.lame_duck_s, "grace_s": self._config.drain_grace_s}})
        await self._unless_hurried(asyncio.sleep(self._config.lame_duck_s))
        self._calls.end(*DRAINING, idle_only=True)
        # One stop, never a second beside it: two at once crashed grpcio 1.85.1 on Python 3.13.
        stopping = asyncio.create_task(self._server.stop(self._config.drain_grace_s + CUT_TIMEOUT_S))
        await self._unless_hurried(self._calls.wait(self._config.drain_grace_s))
        self._calls.end(*DRAINING)
        await stopping
        if self._probing:
            self._probing.cancel()
            await asyncio.wait((self._probing,))
        await self._store.close()
        await self._loader.close()
        await self._client.close()

    def hurry(self) -> None:
        """Wait for nothing any more: a drain under way cuts what still runs, with a status."""
        self._hurried.set()

    async def _unless_hurried(self, step: Coroutine[None, None, object]) -> None:
        tasks = asyncio.create_task(step), asyncio.create_task(self._hurried.wait())
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
