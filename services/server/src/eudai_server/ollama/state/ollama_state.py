"""What is known about one Ollama, created once and shared by the ports that use it."""

from eudai_server.core.readiness import Readiness
from eudai_server.ollama.state.catalog import Catalog
from eudai_server.ollama.state.endpoint import Endpoint
from eudai_server.ollama.state.gathering import Gathering
from eudai_server.ollama.state.gpu import Gpu
from eudai_server.ollama.state.hangs import Hangs
from eudai_server.ollama.state.loader import Loader
from eudai_server.ollama.state.probe import Probe
from eudai_server.ollama.transport.client import Client


class OllamaState:
    """One Ollama: how to reach it, what it has, how its models are, and their loads."""

    def __init__(
        self,
        client: Client,
        readiness: Readiness,
        *,
        expect_gpu: bool,
        strict: bool,
        load_timeout_s: float,
    ) -> None:
        """`load_timeout_s` limits the load of a model.

        `expect_gpu` says that every model should be on a GPU; `strict` refuses a version of Ollama
        that is known to be vulnerable.
        """
        self.catalog = Catalog()
        self.endpoint = Endpoint(client, self.catalog, readiness, strict=strict)
        self.gpu = Gpu(self.catalog, readiness, expected=expect_gpu)
        self.hangs = Hangs(self.endpoint, self.catalog, readiness)
        self.probe = Probe(self.endpoint, self.catalog)
        self.gathering = Gathering()
        self.loader = Loader(self.endpoint, self.catalog, self.probe, load_timeout_s)

    async def close(self) -> None:
        """Stop all tasks."""
        await self.hangs.close()
        await self.loader.close()
        await self.probe.close()
