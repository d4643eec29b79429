"""What is known about one Ollama, created once and shared by the ports that use it."""

from eudai_server.core.readiness import Readiness
from eudai_server.ollama.state.catalog import Catalog
from eudai_server.ollama.state.gpu import Gpu
from eudai_server.ollama.state.hangs import Hangs
from eudai_server.ollama.state.loader import Loader
from eudai_server.ollama.state.probe import Probe
from eudai_server.ollama.transport.client import Client


class OllamaState:
    """One Ollama: its client, catalog, probe, health and loads."""

    def __init__(
        self, client: Client, readiness: Readiness, *, expect_gpu: bool, load_timeout_s: float
    ) -> None:
        """`load_timeout_s` limits the load of a model.

        `expect_gpu` says that every model should be on a GPU.
        """
        self.client = client
        self.catalog = Catalog()
        client.ollama_version = lambda: self.catalog.version
        self.gpu = Gpu(self.catalog, readiness, expected=expect_gpu)
        self.hangs = Hangs(client, self.catalog, readiness)
        self.probe = Probe(client, self.catalog, readiness, self.gpu, self.hangs)
        self.loader = Loader(client, self.catalog, self.probe, load_timeout_s)

    def require_answering(self, model: str) -> None:
        """Raise UnreachableError if Ollama is down, BACKEND_STALLED if the model hangs."""
        self.probe.require_up()
        self.hangs.require_going(model)

    async def close(self) -> None:
        """Stop all tasks."""
        await self.hangs.close()
        await self.loader.close()
        await self.probe.close()
        await self.client.close()
