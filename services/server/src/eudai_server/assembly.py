"""Creates the parts of a server from a configuration and an HTTP client, and connects them.

Opens no port and creates no gRPC server, so tests and the simulation can use it without either.
"""

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from functools import partial

from eudai_server.config import Config, ConfigError
from eudai_server.core.admission import Admission
from eudai_server.core.background import run_again
from eudai_server.core.credentials_file import CredentialsFile, CredentialsFileError
from eudai_server.core.readiness import Readiness
from eudai_server.core.schema_checks import SchemaChecks
from eudai_server.ollama.backend import OllamaBackend
from eudai_server.ollama.embedder import OllamaEmbedder
from eudai_server.ollama.state.ollama_state import OllamaState
from eudai_server.ollama.state.runners import Runners
from eudai_server.ollama.store import OllamaStore
from eudai_server.ollama.transport.client import Client
from eudai_server.rpc.access.authenticator import Authenticator
from eudai_server.rpc.access.credentials import Credentials
from eudai_server.rpc.access.tokens import Tokens, entries_from
from eudai_server.rpc.registry import services
from eudai_server.rpc.services.server_info import Limits
from eudai_server.rpc.transport.calls import Calls

Run = Callable[[], Awaitable[None]]


class Parts:
    """All parts between the gRPC port and the HTTP client."""

    def __init__(self, config: Config, client: Client, *, write_timeout_s: float) -> None:
        """Create the parts; starts no task. Raises ConfigError if the tokens are not valid."""
        self.readiness = Readiness()
        self._credentials_files = _credentials_files_of(config)
        authenticator = Authenticator(
            self._credentials_files,
            config.anonymous,
            needs_certificates=config.tls_client_ca is not None,
            workload_names=config.tls_client_names,
            limits=config.call_limits,
        )
        self.calls = Calls(write_timeout_s, authenticator)
        self._state = state = OllamaState(
            client,
            self.readiness,
            expect_gpu=config.expect_gpu,
            strict=config.strict,
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
            upload_gib_max=config.max_upload,
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
        self.uses_tokens = bool(self._credentials_files)
        self._watching: list[asyncio.Task[None]] = []
        self._read_ollama_token = _present_token(config, client)

    def start(self) -> None:
        """Start the probe of Ollama and the watch for clients that do not read."""
        runs: dict[str, Run] = {"probe": self._state.probe.run, "watch": self.calls.watch}
        for file in self._credentials_files:
            runs[f"read {file.path.name}"] = partial(file.watch, self.calls.end_unauthenticated)
        if self._read_ollama_token:
            runs["read OLLAMA_TOKEN_FILE"] = self._read_ollama_token
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


def _credentials_files_of(config: Config) -> list[CredentialsFile[Credentials]]:
    """The files of credentials that the configuration names. Raises ConfigError."""
    files: list[CredentialsFile[Credentials]] = []
    variable = "EUDAI_TOKENS_FILE"
    try:
        if config.tokens_file:
            files.append(
                CredentialsFile(config.tokens_file, lambda data: Tokens(entries_from(data)))
            )
        variable = "EUDAI_JWKS_FILE"
        if config.jwks_file:
            # Without JWTs, the import would only make the start slower.
            from eudai_server.rpc.access.jwts import JwtRules, Jwts  # noqa: PLC0415

            rules = JwtRules(
                issuer=config.jwt_issuer,
                audience=config.jwt_audience,
                scopes_claim=config.jwt_scopes_claim,
                models_claim=config.jwt_models_claim,
                limits_claim=config.jwt_limits_claim,
            )
            files.append(CredentialsFile(config.jwks_file, lambda data: Jwts(data, rules)))
    except CredentialsFileError as error:
        raise ConfigError(variable, str(error)) from None
    return files


def client_of(config: Config) -> Client:
    """The client of the Ollama that the configuration names. Raises ConfigError."""
    tls = None
    if config.ollama_ca_file:
        try:
            tls = ssl.create_default_context(cafile=config.ollama_ca_file)
        except OSError as error:  # an SSLError is one
            reason = "has no valid certificate"
            if not isinstance(error, ssl.SSLError):
                reason = f"cannot be read: {error.strerror}"
            raise ConfigError("OLLAMA_CA_FILE", reason) from None
    return Client(config.ollama_base_url, tls)


def _present_token(config: Config, client: Client) -> Run | None:
    """Let the client present the token of the configuration, if there is one.

    Returns what reads its file again, until cancelled. Raises ConfigError.
    """
    if not config.ollama_token_file:
        return None
    try:
        file = CredentialsFile(config.ollama_token_file, _token_in)
    except CredentialsFileError as error:
        raise ConfigError("OLLAMA_TOKEN_FILE", str(error)) from None

    def present() -> None:
        client.present(file.credentials)

    present()
    return partial(file.watch, present)


def _token_in(data: bytes) -> str:
    """The token in a file. Raises CredentialsFileError."""
    token = data.decode("ascii", "replace").strip()
    if not re.fullmatch(r"[\x21-\x7e]{1,8192}", token):
        raise CredentialsFileError("must have one token of at most 8192 visible ASCII characters")
    return token
