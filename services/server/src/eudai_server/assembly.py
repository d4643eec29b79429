"""Creates the parts of a server from a configuration and an HTTP client, and connects them.

Opens no port and creates no gRPC server, so tests and the simulation can use it without either.
"""

import asyncio
from functools import partial
from pathlib import Path

from eudai_server.config import Config, ConfigError
from eudai_server.core.admission import Admission
from eudai_server.core.background import run_again
from eudai_server.core.readiness import Readiness
from eudai_server.core.schema_checks import SchemaChecks
from eudai_server.ollama.backend import OllamaBackend
from eudai_server.ollama.embedder import OllamaEmbedder
from eudai_server.ollama.state.ollama_state import OllamaState
from eudai_server.ollama.state.runners import Runners
from eudai_server.ollama.store import OllamaStore
from eudai_server.ollama.transport.client import Client
from eudai_server.rpc.access.authenticator import Authenticator
from eudai_server.rpc.access.tokens import TokensFileError
from eudai_server.rpc.access.tokens_file import TokensFile
from eudai_server.rpc.registry import services
from eudai_server.rpc.services.server_info import Limits
from eudai_server.rpc.transport.calls import Calls


class Parts:
    """All parts between the gRPC port and the HTTP client."""

    def __init__(self, config: Config, client: Client, *, write_timeout_s: float) -> None:
        """Create the parts; starts no task. Raises ConfigError if the tokens are not valid."""
        self.readiness = Readiness()
        self._tokens_file = _tokens_file_at(config.tokens_file)
        authenticator = Authenticator(
            self._tokens_file, config.anonymous, names_workloads=config.tls_client_ca is not None
        )
        self.calls = Calls(write_timeout_s, authenticator)
        self._state = state = OllamaState(
            client,
            self.readiness,
            expect_gpu=config.expect_gpu,
            load_timeout_s=config.first_event_timeout_s,
        )
        backend = OllamaBackend(
            state,
            first_event_timeout_s=config.first_event_timeout_s,
            event_timeout_s=config.event_timeout_s,
        )
        self.admission = Admission(
            backend,
            OllamaEmbedder(state, timeout_s=config.first_event_timeout_s),
            Runners(state).identify,
            config.max_running,
            config.max_queued,
        )
        self._store = OllamaStore(
            state,
            unload_timeout_s=config.first_event_timeout_s,
            event_timeout_s=config.first_event_timeout_s,
        )
        self.schema_checks = SchemaChecks()
        self.services = services(
            store=self._store,
            registries=config.registries,
            readiness=self.readiness,
            admission=self.admission,
            schema_checks=self.schema_checks,
            limits=Limits(admin=config.admin, load_options=config.load_options),
            ollama_version=lambda: state.catalog.version if self.readiness.backend_up else "",
            reflection=config.reflection,
        )
        self._watching: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the probe of Ollama and the watch for clients that do not read."""
        runs = {"probe": self._state.probe.run, "watch": self.calls.watch}
        if self._tokens_file:
            runs["tokens"] = partial(self._tokens_file.watch, self.calls.end_unauthenticated)
        self._watching = [
            asyncio.create_task(run_again(run, name), name=name) for name, run in runs.items()
        ]

    async def close(self) -> None:
        """Stop all parts, in reverse order."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        await self.schema_checks.close()
        await self._store.close()
        await self.admission.close()
        await self._state.close()


def _tokens_file_at(path: Path | None) -> TokensFile | None:
    try:
        return TokensFile(path) if path else None
    except TokensFileError as error:
        raise ConfigError("EUDAI_TOKENS_FILE", str(error)) from None
