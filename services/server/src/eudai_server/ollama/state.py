"""What is known of one Ollama, put together once and shared by the ports that use it."""

from eudai_server.ollama.catalog import Catalog
from eudai_server.ollama.client import Client
from eudai_server.ollama.gpu import Gpu
from eudai_server.ollama.hangs import Hangs
from eudai_server.ollama.loading import Loader
from eudai_server.ollama.probe import Probe
from eudai_server.readiness import Readiness


class OllamaState:
    """One Ollama: the way to it, what it has, how it is, and the loads under way."""

    def __init__(
        self, client: Client, readiness: Readiness, *, expect_gpu: bool, load_timeout_s: float
    ) -> None:
        """`expect_gpu`: every model belongs on a GPU. `load_timeout_s` bounds the load of a model."""
        self.client = client
        self.catalog = Catalog()
        client.ollama_version = lambda: self.catalog.version
        self.gpu = Gpu(self.catalog, readiness, expected=expect_gpu)
        self.hangs = Hangs(client, self.catalog, readiness)
        self.probe = Probe(client, self.catalog, readiness, self.gpu, self.hangs)
        self.loader = Loader(client, self.catalog, self.probe, load_timeout_s)

    def require_answering(self, model: str) -> None:
        """Raise UnreachableError while Ollama does not answer, BACKEND_STALLED while the model hangs."""
        self.probe.require_up()
        self.hangs.require_going(model)

    async def close(self) -> None:
        """Give up what is under way."""
        await self.hangs.close()
        await self.loader.close()
        await self.probe.close()
        await self.client.close()
