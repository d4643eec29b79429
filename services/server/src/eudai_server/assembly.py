"""A configuration and an HTTP client go in; the parts of a server come out, wired to one another. No port, no gRPC server."""

import asyncio

from eudai_server.admission import Admission
from eudai_server.background import run_again
from eudai_server.config import Config
from eudai_server.ollama.backend import OllamaBackend
from eudai_server.ollama.catalog import Catalog
from eudai_server.ollama.client import Client
from eudai_server.ollama.embedder import OllamaEmbedder
from eudai_server.ollama.gpu import Gpu
from eudai_server.ollama.loading import Loader
from eudai_server.ollama.probe import Probe
from eudai_server.ollama.store import OllamaStore
from eudai_server.readiness import Readiness
from eudai_server.rpc.call import Calls
from eudai_server.rpc.server_service import Limits
from eudai_server.rpc.services import Parts, registrations


class Assembly:
    """Everything between the port and the HTTP client."""

    def __init__(self, config: Config, client: Client, *, write_timeout_s: float) -> None:
        """Begins nothing yet."""
        self.readiness = Readiness()
        self.calls = Calls(write_timeout_s)
        self._client = client
        catalog = Catalog()
        client.ollama_version = lambda: catalog.version
        gpu = Gpu(catalog, self.readiness, expected=config.expect_gpu)
        self._probe = Probe(client, catalog, self.readiness, gpu)
        self._loader = Loader(client, catalog, self._probe, config.first_event_timeout_s)
        timeouts = {
            "first_event_timeout_s": config.first_event_timeout_s,
            "event_timeout_s": config.event_timeout_s,
        }
        backend = OllamaBackend(client, catalog, self._probe, self._loader, gpu, **timeouts)
        self.admission = Admission(backend, config.max_running, config.max_queued)
        self._store = OllamaStore(
            client,
            self._probe,
            self._loader,
            load_timeout_s=config.first_event_timeout_s,
            event_timeout_s=config.first_event_timeout_s,
        )
        parts = Parts(
            embedder=OllamaEmbedder(
                client, catalog, self._probe, self._loader, timeout_s=config.first_event_timeout_s
            ),
            store=self._store,
            registries=config.registries,
            readiness=self.readiness,
            admission=self.admission,
            limits=Limits(admin=config.admin, load_options=config.load_options),
            ollama_version=lambda: catalog.version if self.readiness.backend_up else "",
        )
        self.registrations = registrations(parts, reflection=config.reflection)
        self._watching: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to look at Ollama, and at clients that do not read."""
        runs = {"probe": self._probe.run, "watch": self.calls.watch}
        self._watching = [
            asyncio.create_task(run_again(run, name), name=name) for name, run in runs.items()
        ]

    async def close(self) -> None:
        """Give up what is under way, in reverse order."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        await self._store.close()
        await self.admission.close()
        await self._loader.close()
        await self._client.close()
